package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxPolicyFile bounds a policy file; the longest sensible ones have some
// thousand rules of some dozen bytes.
const maxPolicyFile = 1 << 20

// document is the schema of a policy file.
type document struct {
	Network struct {
		Allow        []string `toml:"allow"`
		Deny         []string `toml:"deny"`
		AllowUnix    []string `toml:"allow_unix"`
		AllowBind    []string `toml:"allow_bind"`
		DenyBind     []string `toml:"deny_bind"`
		PortRemap    bool     `toml:"port_remap"`
		AllowPrivate bool     `toml:"allow_private"`
		DNSServer    any      `toml:"dns_server"` // a string or a list of them
		Proxy        string   `toml:"upstream_proxy"`
		Audit        bool     `toml:"audit"`
	} `toml:"network"`
	HTTP       httpTable `toml:"http"`
	Filesystem *struct {
		Read  []string `toml:"read"`
		Write []string `toml:"write"`
		Deny  []string `toml:"deny"`
	} `toml:"filesystem"`
	Limits *struct {
		Processes int    `toml:"processes"`
		Memory    string `toml:"memory"`
		OpenFiles uint64 `toml:"open_files"`
		CPU       int    `toml:"cpu"`
		CPUCores  []int  `toml:"cpu_cores"`
		NumCPUs   int    `toml:"num_cpus"`
	} `toml:"limits"`
	Syscalls *struct {
		ExtraAllow []string `toml:"extra_allow"`
		ExtraDeny  []string `toml:"extra_deny"`
	} `toml:"syscalls"`
	Determinism *struct {
		NoRandomizeMemory bool    `toml:"no_randomize_memory"`
		DeterministicDirs bool    `toml:"deterministic_dirs"`
		RandomSeed        *uint64 `toml:"random_seed"`
		TimeStart         string  `toml:"time_start"`
	} `toml:"determinism"`
	Program struct {
		Env      map[string]string `toml:"env"`
		CleanEnv bool              `toml:"clean_env"`
		Cwd      string            `toml:"cwd"`
		Timeout  string            `toml:"timeout"`
		Name     string            `toml:"name"`
		PassFD   []int             `toml:"pass_fd"`

		NoCoreDump  bool `toml:"no_coredump"`
		NoHugePages bool `toml:"no_huge_pages"`
	} `toml:"program"`
	Log struct {
		File  string `toml:"file"`
		Quiet bool   `toml:"quiet"`
	} `toml:"log"`
}

// ReadPolicy reads the policy file at path, once. The file is strict TOML: an
// unknown key is an error with its line and the nearest known key. Every error
// that was found is joined into the one returned, each one line. The policy has
// no Command and is not yet compiled.
func ReadPolicy(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--policy: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--policy: %w", err)
	case len(text) > maxPolicyFile:
		return nil, fmt.Errorf("--policy: %s: longer than %d bytes; use ranges and wildcards", path, maxPolicyFile)
	}
	return ParsePolicy(path, text)
}

// ParsePolicy is ReadPolicy for text that was read before; file names it in
// sources and errors.
func ParsePolicy(file string, text []byte) (*Policy, error) {
	var d document
	dec := toml.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, explainTOML(file, text, err)
	}
	at := lines(text)
	source := func(key string, i int) string {
		if l := at[key]; i < len(l) {
			return file + ":" + strconv.Itoa(l[i])
		}
		return file
	}
	rules := func(key string, texts []string) (out []RuleText) {
		for i, t := range texts {
			out = append(out, RuleText{t, source(key, i)})
		}
		return out
	}
	n, p := d.Network, d.Program
	out := &Policy{
		Allow: rules("network.allow", n.Allow), Deny: rules("network.deny", n.Deny),
		AllowBind: rules("network.allow_bind", n.AllowBind), DenyBind: rules("network.deny_bind", n.DenyBind),
		AllowUnix: n.AllowUnix, PortRemap: n.PortRemap, AllowPrivate: n.AllowPrivate, UpstreamProxy: n.Proxy, Audit: n.Audit,
		CleanEnv: p.CleanEnv, Dir: p.Cwd, Name: p.Name, PassFDs: p.PassFD,
		LogFile: d.Log.File, Quiet: d.Log.Quiet,
	}
	d.HTTP.apply(out, rules)
	if d.Filesystem != nil {
		out.Files = &Files{Read: d.Filesystem.Read, Write: d.Filesystem.Write, Deny: d.Filesystem.Deny}
	}
	var errs []error
	out.Limits.NoCoreDump, out.Limits.NoHugePages = p.NoCoreDump, p.NoHugePages
	if l := d.Limits; l != nil {
		out.Limits.Processes, out.Limits.OpenFiles, out.Limits.CPU, out.Limits.Cores, out.Limits.ShowCPUs = l.Processes, l.OpenFiles, l.CPU, l.CPUCores, l.NumCPUs
		if l.Memory != "" {
			n, err := ParseBytes(l.Memory)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", source("limits.memory", 0), err))
			}
			out.Limits.Memory = n
		}
	}
	if s := d.Syscalls; s != nil {
		out.AllowSyscalls, out.DenySyscalls = s.ExtraAllow, s.ExtraDeny
	}
	if d.Determinism != nil {
		out.Limits.FixedAddresses, out.SortedDirs = d.Determinism.NoRandomizeMemory, d.Determinism.DeterministicDirs
	}
	if n.Proxy == "" && len(at["network.upstream_proxy"]) > 0 {
		errs = append(errs, fmt.Errorf("%s: upstream_proxy is empty; write \"http://HOST:PORT\", or leave it out", source("network.upstream_proxy", 0)))
	}
	servers, err := oneOrMore(n.DNSServer)
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: network.dns_server: %w", file, err))
	}
	for i, t := range servers {
		ap, err := ParseDNSServer(t)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", source("network.dns_server", i), err))
		}
		out.DNSServers = append(out.DNSServers, ap)
	}
	if d.Determinism != nil {
		out.RandomSeed = d.Determinism.RandomSeed
		if text := d.Determinism.TimeStart; text != "" {
			if out.TimeStart, err = ParseTimeStart(text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", source("determinism.time_start", 0), err))
			}
		}
	}
	for k, v := range p.Env {
		out.Env = append(out.Env, k+"="+v)
	}
	slices.Sort(out.Env)
	if p.Timeout != "" {
		if out.Timeout, err = time.ParseDuration(p.Timeout); err != nil {
			errs = append(errs, fmt.Errorf("%s: timeout %q is not a duration; write one such as \"90s\" or \"10m\"", source("program.timeout", 0), p.Timeout))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// oneOrMore reads a string or a list of strings.
func oneOrMore(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	var out []string
	for _, e := range list {
		text, ok := e.(string)
		if !ok {
			return nil, errors.New("there is something else where a string or a list of strings is wanted")
		}
		out = append(out, text)
	}
	return out, nil
}

// lines maps each key, as TABLE.KEY, to the lines of its strings.
func lines(text []byte) map[string][]int {
	out := map[string][]int{}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	line, counted := 1, 0
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = join(e) + "."
		case unstable.KeyValue:
			key := table + join(e)
			add := func(n *unstable.Node) {
				if n.Kind == unstable.String {
					line += bytes.Count(text[counted:n.Raw.Offset], []byte("\n"))
					counted = int(n.Raw.Offset)
					out[key] = append(out[key], line)
				}
			}
			v := e.Value()
			add(v)
			if v.Kind == unstable.Array {
				for it := v.Children(); it.Next(); {
					add(it.Node())
				}
			}
		}
	}
	return out
}

func join(n *unstable.Node) string {
	var parts []string
	for it := n.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, ".")
}

// explainTOML turns the library's errors into lines of FILE:LINE.
func explainTOML(file string, text []byte, err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) {
		var errs []error
		for i := range missing.Errors {
			e := &missing.Errors[i]
			line, _ := e.Position()
			errs = append(errs, fmt.Errorf("%s:%d: %s", file, line, unknownKey(e.Key())))
		}
		return errors.Join(errs...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, column := bad.Position()
		where := ""
		if k := bad.Key(); len(k) > 0 {
			where = strings.Join(k, ".") + ": "
		}
		return fmt.Errorf("%s:%d:%d: %s%s", file, line, column, where, plain(strings.TrimPrefix(bad.Error(), "toml: ")))
	}
	return fmt.Errorf("%s: %w", file, err)
}

// wanted names a type of the schema for people.
func wanted(goType string) string {
	switch goType {
	case "[]string":
		return "a list of strings"
	case "[]int":
		return "a list of numbers"
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "int":
		return "a number"
	case "map[string]string":
		return "a table of strings"
	}
	return "something else"
}

// plain replaces the Go types in what the library says about a wrong type.
func plain(msg string) string {
	rest, ok := strings.CutPrefix(msg, "cannot decode TOML ")
	kind, _, found := strings.Cut(rest, " into ")
	if !ok || !found {
		return msg
	}
	return "there is a TOML " + kind + " where " + wanted(msg[strings.LastIndexByte(msg, ' ')+1:]) + " is wanted"
}

// unknownKey says what is wrong with a key and which known one is nearest: in
// its own table, or else the tables that do have it.
func unknownKey(key []string) string {
	t := reflect.TypeFor[document]()
	table, depth := "the top level", 0
	for ; depth < len(key)-1; depth++ {
		sub, ok := fields(t)[key[depth]]
		if !ok || len(fields(sub)) == 0 {
			break
		}
		t, table = sub, "["+strings.Join(key[:depth+1], ".")+"]"
	}
	word := key[depth]
	msg := fmt.Sprintf("unknown key %q in %s", word, table)
	known := fields(t)
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	if best := nearest(word, names); best != "" {
		return msg + fmt.Sprintf("; did you mean %q?", best)
	}
	top := fields(reflect.TypeFor[document]())
	for _, other := range []string{"network", "http", "filesystem", "limits", "syscalls", "determinism", "program", "log"} {
		if _, ok := fields(top[other])[word]; ok {
			return msg + fmt.Sprintf("; it belongs into [%s]", other)
		}
	}
	return msg + "; known are " + strings.Join(names, ", ")
}

func fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		for f := range t.Fields() {
			out[f.Tag.Get("toml")] = f.Type
		}
	}
	return out
}

// nearest returns the candidate with the fewest edits to word, "" if all are far.
func nearest(word string, candidates []string) string {
	best, least := "", len(word)/2+1
	for _, c := range candidates {
		if d := edits(strings.ReplaceAll(word, "-", "_"), c); d < least {
			best, least = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
