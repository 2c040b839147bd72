package endpoint

// Reason says why a verdict is as it is.
type Reason uint8

// The reasons. The zero Reason is that nothing allows it.
const (
	NoRule         Reason = iota // no rule speaks of the target
	OtherPort                    // rules allow the target on other ports only
	OtherProtocol                // rules allow the target with other protocols only
	DenyRule                     // a deny rule covers it
	SpecialUse                   // a name leads to an address that is not public
	AllowRule                    // an allow rule covers it
	PublicAddress                // Answer: the address is public
	HostsFile                    // Answer: the host's own file gives the address
	PrivateAllowed               // Answer: Options.AllowPrivate
	Unchained                    // Options.Chained: it is allowed, but leads past the other proxy
)

// String returns the reason for people.
func (r Reason) String() string {
	switch r {
	case NoRule:
		return "no rule allows it"
	case OtherPort:
		return "no rule allows it on this port"
	case OtherProtocol:
		return "no rule allows it with this protocol"
	case DenyRule:
		return "a deny rule covers it"
	case SpecialUse:
		return "a name may not lead to an address that is not public"
	case AllowRule:
		return "a rule allows it"
	case PublicAddress:
		return "the address is public"
	case HostsFile:
		return "the host's hosts file gives the address"
	case PrivateAllowed:
		return "names may lead to private addresses"
	case Unchained:
		return "a public address is reached through --upstream-proxy only: by name, over TCP, on ports 80, 443 and those of HTTP rules"
	}
	return "unknown"
}

// Unruled tells whether the reason is merely that no rule speaks of the endpoint.
func (r Reason) Unruled() bool { return r == NoRule || r == OtherPort || r == OtherProtocol }

// Verdict is a decision and what stands behind it. The zero Verdict denies.
type Verdict struct {
	Allowed bool
	// Rule is the rule behind the verdict; it belongs to the policy and is not to
	// be changed. nil when no rule is behind it.
	Rule   *Rule
	Reason Reason
	// AllowWith is a flag of `sandlock net` that would allow what was denied,
	// with its value, such as "--allow example.com:443"; "" when there is none.
	AllowWith string
	// Inspect: the first message of the connection has to carry one of Names.
	Inspect bool
	// Names are the bound names that an allow rule by name covers here.
	Names []Name
}
