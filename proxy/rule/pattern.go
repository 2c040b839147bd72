package rule

import (
	"errors"
	"fmt"
	"strings"
)

// wild stands for a segment "*" in the text of a pattern. Which character it is does
// not matter: a path that holds it is covered by any "*" and by nothing else.
const wild = "\ue001"

// pattern is one reading of the path of a rule.
type pattern struct {
	// text is decoded, with wild for each "*"; it ends in a slash when tail is set.
	text string
	wild bool
	// tail: anything may follow.
	tail bool
	// suffix is what has to be at the end then, after at least one more character.
	suffix string
}

// patterns are the readings of one path: a rule that was written for a path with two
// readings covers both.
type patterns []pattern

// parsePattern reads the path of a rule. The error says what to write.
func parsePattern(s string) (patterns, error) {
	tail := false
	switch {
	case strings.ContainsAny(s, "?#"):
		return nil, errors.New("rules look at the path only; leave out the ? or # and what follows (a literal one is written %3F or %23)")
	case strings.Contains(s, wild):
		return nil, errors.New("the path has the character U+E001, which rules cannot hold")
	}
	parts := strings.Split(s, "/")
	for i, part := range parts {
		switch {
		case part == "*" && i == len(parts)-1:
			parts[i], tail = "", true
		case part == "*":
			parts[i] = wild
		case strings.Contains(part, "*"):
			return nil, fmt.Errorf("* stands for a whole segment of the path, or at the end for everything below; in %q it can match nothing (a literal one is written %%2A)", shorten(part))
		case part == "." || part == "..":
			return nil, errors.New("requests have no dot segments; write the path without them")
		}
	}
	path, err := ParsePath(strings.Join(parts, "/"))
	if err != nil {
		return nil, fmt.Errorf("no request has this path: %w", err)
	}
	var out patterns
	for _, text := range path.all() {
		out = append(out, pattern{text: text, wild: strings.Contains(text, wild), tail: tail})
	}
	return out, nil
}

// extend returns the patterns with each of more appended. After a tail, the text that
// it stands for is not empty.
func (ps patterns) extend(more ...string) (out patterns) {
	for _, p := range ps {
		for _, m := range more {
			if p.tail {
				p.suffix = m
				out = append(out, p)
				continue
			}
			q := p
			q.text += m
			out = append(out, q)
		}
	}
	return out
}

// cover tells whether one of the patterns covers a reading, letter by letter.
func (ps patterns) cover(s string) bool {
	for i := range ps {
		if ps[i].covers(s, false) {
			return true
		}
	}
	return false
}

// meet tells whether one of the patterns covers some reading of a path, loosely.
func (ps patterns) meet(p *Path) bool {
	if p.readings == nil && ps.loosely(p.text) {
		return true
	}
	for _, list := range [...][]string{p.readings, p.blurred} {
		for _, reading := range list {
			if ps.loosely(reading) {
				return true
			}
		}
	}
	return false
}

// loosely tells whether one of the patterns covers a reading for a server that
// ignores case, or a slash at the end.
func (ps patterns) loosely(s string) bool {
	for i := range ps {
		p := &ps[i]
		if p.covers(s, true) {
			return true
		}
		if !p.tail && len(s) > 1 {
			q := *p
			q.text = strings.TrimSuffix(p.text, "/")
			if q.covers(strings.TrimSuffix(s, "/"), true) {
				return true
			}
		}
	}
	return false
}

func (p *pattern) covers(s string, fold bool) bool {
	if p.suffix != "" {
		i := len(s) - len(p.suffix)
		if i <= len(p.text) || !same(s[i:], p.suffix, fold) {
			return false
		}
		s = s[:i]
	}
	switch {
	case p.wild || fold:
		return p.walk(s, fold)
	case p.tail:
		return strings.HasPrefix(s, p.text)
	}
	return s == p.text
}

// walk compares segment by segment.
func (p *pattern) walk(s string, fold bool) bool {
	want, have := p.text, s
	for {
		w, wRest, wMore := strings.Cut(want, "/")
		if p.tail && !wMore {
			return true // the prefix ends in a slash, and s had it too
		}
		h, hRest, hMore := strings.Cut(have, "/")
		if w == wild && h == "" || w != wild && !same(w, h, fold) || wMore != hMore {
			return false
		}
		if !wMore {
			return true
		}
		want, have = wRest, hRest
	}
}

func same(a, b string, fold bool) bool {
	return a == b || fold && strings.EqualFold(a, b)
}

// includes tells whether p covers, loosely, all that q covers.
func (p *pattern) includes(q *pattern) bool {
	if p.suffix != "" || q.tail && !p.tail {
		return false
	}
	return p.walk(q.text, true)
}
