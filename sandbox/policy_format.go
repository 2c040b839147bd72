package sandbox

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// TOML returns the policy as a policy file has it, with what is not set left out.
// The variables of Env are left out too: their values may be secrets. So are the user
// and password of UpstreamProxy, and the Command, which no file has.
func (p *Policy) TOML() ([]byte, error) {
	var servers []string
	for _, s := range p.DNSServers {
		servers = append(servers, s.String())
	}
	timeout := ""
	if p.Timeout != 0 {
		timeout = p.Timeout.String()
	}
	memory := ""
	if p.Limits.Memory != 0 {
		memory = strconv.FormatUint(p.Limits.Memory, 10)
	}
	credentials := map[string]string{} // where they are, never what
	for _, c := range p.Credentials {
		name, place, _ := strings.Cut(c.Text, "=")
		credentials[name] = place
	}
	doc := map[string]map[string]any{
		"network": {
			"allow": texts(p.Allow), "deny": texts(p.Deny), "allow_unix": p.AllowUnix,
			"allow_bind": texts(p.AllowBind), "deny_bind": texts(p.DenyBind), "port_remap": p.PortRemap,
			"allow_private": p.AllowPrivate, "dns_server": servers, "audit": p.Audit,
			"upstream_proxy": p.proxyWithoutPassword(),
		},
		"http": {
			"allow": texts(p.HTTPAllow), "deny": texts(p.HTTPDeny), "tls": string(p.TLS), "inject_ca": p.InjectCA,
			"ca": p.CAFile, "ca_key": p.CAKeyFile, "ca_out": p.CAOut, "credential": credentials, "auth": texts(p.HTTPAuth),
		},
		"limits": {
			"processes": p.Limits.Processes, "memory": memory, "open_files": p.Limits.OpenFiles, "cpu": p.Limits.CPU,
			"cpu_cores": p.Limits.Cores, "num_cpus": p.Limits.ShowCPUs,
		},
		"syscalls":    {"extra_allow": p.AllowSyscalls, "extra_deny": p.DenySyscalls},
		"determinism": {"no_randomize_memory": p.Limits.FixedAddresses, "deterministic_dirs": p.SortedDirs},
		"program": {
			"clean_env": p.CleanEnv, "cwd": p.Dir, "timeout": timeout, "name": p.Name, "pass_fd": p.PassFDs,
			"no_coredump": p.Limits.NoCoreDump, "no_huge_pages": p.Limits.NoHugePages,
		},
		"log": {"file": p.LogFile, "quiet": p.Quiet},
	}
	if p.RandomSeed != nil {
		doc["determinism"]["random_seed"] = p.RandomSeed // a pointer: 0 is a seed too
	}
	if !p.TimeStart.IsZero() {
		doc["determinism"]["time_start"] = p.TimeStart.Format(time.RFC3339)
	}
	if p.Files != nil {
		doc["filesystem"] = map[string]any{"read": p.Files.Read, "write": p.Files.Write, "deny": p.Files.Deny}
	}
	for name, table := range doc {
		for key, v := range table {
			v := reflect.ValueOf(v)
			if many := v.Kind() == reflect.Slice || v.Kind() == reflect.Map; many && v.Len() == 0 || v.IsZero() {
				delete(table, key)
			}
		}
		if len(table) == 0 && name != "filesystem" { // an empty one closes files all the same
			delete(doc, name)
		}
	}
	return toml.Marshal(doc)
}

func texts(rules []RuleText) (out []string) {
	for _, r := range rules {
		out = append(out, r.Text)
	}
	return out
}
