package rule

import (
	"errors"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "/a/": "/a/", "/%61%2Db": "/a-b", "/%2f": "/%2F", "/a%c3%a9": "/a%C3%A9", "/aé": "/a%C3%A9", "/a|{b}\"": "/a%7C%7Bb%7D%22", "/a;b": "/a;b", "/a%3bb": "/a%3Bb",
		"/a/./b": "/a/b", "/a/../b": "/b", "/../../b": "/b", "/a/b/..": "/a/", "/a/.": "/a/", "/..": "/", "/a//b": "/a//b", "//a": "//a", "/a//../b": "/a/b", "/.a/..b/c.": "/.a/..b/c.", "/...": "/...",
		"/a%20b": "/a%20b", "/a+b": "/a+b", "/a%2Bb": "/a%2Bb", "/100%25": "/100%25", "/a%252Fb": "/a%252Fb", "/@s%2fp": "/@s%2Fp", "/a:b@c,d=e&f!$'()*": "/a:b@c,d=e&f!$'()*", "/~u": "/~u", "/%7eu": "/~u",
		"/web/https://x.test/": "/web/https://x.test/", "/a%3fb%23": "/a%3Fb%23",
	} {
		p, err := ParsePath(in)
		if err != nil || p.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, p, err, want)
		}
	}
	for _, in := range []string{
		"", "a", "*", "/%", "/%4", "/%zz", "/%u002f", "/a\\b", "/a%5cb", "/a%5C..", "/\x00", "/%00", "/a%0d%0ab", "/%7f", "/%C2%80", "/a b", "/a#b", "/\t", "/a\x7f",
		"/%2e%2e/a", "/%2e/a", "/.%2E/a", "/a/%2e%2e", "/..%2fa", "/a%2f..%2fb", "/a%2f..", "/%2e%2e%2fa", "/..;/a", "/.;x/a", "/a/..;", "/..%3b/a", "/%252e%252e/a", "/..%252fa",
		"/%ff", "/%c0%af", "/%c0%ae%c0%ae/", "/%e0%80%af", "/\xff", "/%2500", "/%255c", "/%25252525252e", "/%EF%BC%8E%EF%BC%8E/a", "/%E2%80%A4%E2%80%A4/a", "/a%EF%BC%BCb", "/..%EF%BC%8Fa", "/..%3fx", "/..%23",
		"/" + strings.Repeat("a", maxPath),
	} {
		p, err := ParsePath(in)
		var e *Error
		if !errors.As(err, &e) || e.Status != 400 || len(e.Reason) > 250 {
			t.Errorf("%.40q became %.40q, %v", in, p, err)
		}
	}
}

// spellings are ways to write a path below /admin/ that some server understands. A
// rule that denies /admin/* must stop each, as the two readings of a refused
// request or by its verdict.
var spellings = []string{
	"/admin/x", "/admin/", "/ADMIN/x", "/Admin/x", "//admin/x", "///admin//x", "/./admin/x", "/x/../admin/x", "/x/y/../../admin/x", "/../admin/x", "/../../admin/x",
	"/admin/../admin/x", "/admin/./x", "/admin//x", "/admin/x/..", "/%61dmin/x", "/%61%64%6d%69%6e/x", "/%41DMIN/x", "/adm%69n/x", "/admin%2fx", "/admin%2Fx", "/%2fadmin/x", "/%2Fadmin%2Fx",
	"/%2e/admin/x", "/x/%2e%2e/admin/x", "/x/.%2e/admin/x", "/x/%2E./admin/x", "/%2e%2e/admin/x", "/x/..%2fadmin/x", "/x%2f..%2fadmin/x", "/x/%2e%2e%2fadmin/x", "/..%2fadmin/x",
	"/admin;/x", "/admin;a=b/x", "/admin;a=b;c/x", "/;/admin/x", "/;a/admin/x", "/x/..;/admin/x", "/x/..;a=b/admin/x", "/.;/admin/x", "/admin%3b/x", "/admin%3Ba=b/x",
	`/admin\x`, `\admin\x`, `/x\..\admin\x`, "/admin%5cx", "/%5cadmin/x", "/x/..%5cadmin/x", `/x/..\admin/x`,
	"/%2561dmin/x", "/%252561dmin/x", "/admin%252fx", "/%252fadmin/x", "/x/%252e%252e/admin/x", "/x/%252e%252e%252fadmin/x", "/x/..%252fadmin/x", "/%25252561dmin/x",
	"/x/%c0%ae%c0%ae/admin/x", "/x/..%c0%afadmin/x", "/admin%c0%afx", "/x/%e0%80%ae%e0%80%ae/admin/x", "/x/..%u2215admin/x", "/%u0061dmin/x", "/x/..%ef%bc%8fadmin/x", "/admin%ef%bc%8fx", "/%ef%bd%81dmin/x", "/x/%ef%bc%8e%ef%bc%8e/admin/x", "/admin%e2%88%95x", "/admin%e2%81%84x", "/ａdmin/x",
	"/admin%00/x", "/%00admin/x", "/admin%00.html/x", "/x/..%00/admin/x", "/admin%0a/x", "/%0d%0aadmin/x", "/admin%09/x", "/%09admin/x", "/admin\t/x", "/admin%7f/x",
	"/admin./x", "/admin../x", "/admin.../x", "/admin%20/x", "/admin%2e/x", "/admin%20./x", "/admin%c2%a0/x", "/admin /x", "/admin/%3f", "/admin/x?a", "/admin/%23", "/admin/#", "/admin#/x",
	"/admin/%2e%2e/admin/x", "/x%2f%2e%2e%2fadmin/x", "/x/.%252e/admin/x", "/x/..;%2fadmin/x", "/x/..%3b/admin/x", "/x/..%253b/admin/x", "/%", "/%/admin/x", "/admin%/x", "/%2/admin/x", "/%admin/x",
	"/admin;%2fx", "/admin;/..;/admin/x", "/%2f%2fadmin/x", "/.//admin/x", "//./admin/x", "/x//../../admin/x", "/admin;x=%2f/x", "/%61dmin%2f%2e/x", "http://a.test/admin/x", "http://a.test//admin/x", "http://a.test/x/../admin/x", "http://b.test/admin/x", "//a.test/admin/x", "//a.test//admin/x", "//a.test;x/admin/y",
}

func TestSpellingsOfADeniedPath(t *testing.T) {
	p := mustPolicy(t, lines("* a.test"), lines("* */admin/*"))
	for _, target := range spellings {
		r, err := NewRequest("GET", false, "a.test", target, 80)
		if err != nil {
			continue
		}
		if v := p.Decide(r, Destination{}); v.Allowed {
			t.Errorf("%q is forwarded as %q", target, r.Target())
		}
	}
	for _, target := range []string{"/", "/admin", "/administrator/x", "/x/admin/x", "/admin.json", "/xadmin/x", "/a%2Fadmin", "/admin-x/y", "/x;admin/y", "/x?/admin/y", "/admin%3fx/y"} {
		r, err := NewRequest("GET", false, "a.test", target, 80)
		if err != nil || !p.Decide(r, Destination{}).Allowed {
			t.Errorf("%q is refused: %v", target, err)
		}
	}
}
