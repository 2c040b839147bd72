package auth

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Rule{
		"* api.example/v1/* bearer KEY":               {Kind: Bearer, Credential: "KEY"},
		"GET,POST *.example basic:me KEY replace":     {Kind: Basic, Param: "me", Credential: "KEY"},
		"read api.example:8443 header:X-Key K":        {Kind: Header, Param: "X-Key", Credential: "K"},
		"* https://api.example apikey:x-k K":          {Kind: Header, Param: "x-k", Credential: "K"},
		"POST api.example/x query:api_key K add-only": {Kind: Query, Param: "api_key", Credential: "K", AddOnly: true},
	} {
		got, err := Parse(text, "--http-auth")
		if err != nil || got.Kind != want.Kind || got.Param != want.Param || got.Credential != want.Credential || got.AddOnly != want.AddOnly || got.Match.Text != text {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                  "write METHOD",
		"* api.example bearer":              "write METHOD",
		"* * bearer K":                      "in place of *",
		"* *:443/x bearer K":                "in place of *",
		"* http://api.example bearer K":     "over TLS only",
		"* api.example digest K":            "none of bearer",
		"* api.example bearer:x K":          "nothing follows",
		"* api.example basic K":             "USER follows",
		"* api.example basic:a:b K":         "no colon",
		"* api.example header:Host K":       "can hold a secret",
		"* api.example header:a\x00b K":     "can hold a secret",
		"* api.example bearer K add-only x": "write METHOD",
		"* api.example bearer K sometimes":  "neither replace",
		"* a..b bearer K":                   "a..b",
	} {
		if _, err := Parse(text, "--http-auth"); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--http-auth ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
