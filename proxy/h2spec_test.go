package proxy_test

import (
	"encoding/xml"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/proxy"
	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

// deviations are the cases of h2spec that the front does not pass, each with the
// reason why that is right or does no harm.
var deviations = map[string]string{
	"Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                      "the frame has some 20,000 bytes: the case takes 16,384 for the limit, and the front announces 65,536",
	"Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                          "net/http closes a connection whose SETTINGS name one value twice; no client does so",
	"Sends a HEADERS frame that contains the connection-specific header field":                       "the request is answered with 400, as RFC 9113 section 8.1.1 allows, and not carried",
	"Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "as before: 400",
}

func TestH2spec(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	w := newWorld(t, worldOptions{allow: []string{"* *:1-65535/*"}})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.proxy.Serve(proxy.Connection{ID: w.newID(), Client: c, Dst: at})
		}
	}()
	// It prints as it goes.
	stdout := os.Stdout
	if os.Stdout, err = os.Open(os.DevNull); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	_, err = h2spec.Run(&config.Config{Host: "127.0.0.1", Port: int(at.Port()), Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000,
		TLS: true, Insecure: true, Strict: true, JUnitReport: report})
	os.Stdout.Close()
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Suites []struct {
			ID    string `xml:"id,attr"`
			Cases []struct {
				Name    string `xml:"classname,attr"`
				Failure string `xml:"failure"`
				Error   string `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, s := range all.Suites {
		for _, c := range s.Cases {
			switch why := strings.TrimSpace(c.Failure + c.Error); {
			case why == "":
				passed++
			case deviations[c.Name] == "":
				t.Errorf("%s: %s: %s", s.ID, c.Name, why)
			}
		}
	}
	const cases = 146
	if passed < cases-len(deviations) {
		t.Errorf("%d cases passed", passed)
	}
}
