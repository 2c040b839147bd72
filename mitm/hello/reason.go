package hello

// Reason is why a first message was refused. It is an error; its text completes
// the sentence "refused: ...".
type Reason uint8

// The reasons. Those from NoName to BadPort are about the name and occur with
// both protocols.
const (
	NotRecognised Reason = iota + 1
	TooLarge

	NoName
	TwoNames
	NameIsAddress
	NameTrailingDot
	NameTooLong
	NameBytes
	BadPort

	SSLv2
	BadRecord
	NotClientHello
	TrailingData
	Malformed
	DuplicateExtension
	NameType

	Connect
	HTTP2Preface
	BadVersion
	BadRequestLine
	BadTarget
	TargetNotHost
	BareLF
	BareCR
	ControlByte
	ObsFold
	SpaceBeforeColon
	BadHeader
)

var reasons = [...]string{
	NotRecognised: "neither a TLS ClientHello nor an HTTP request",
	TooLarge:      "first message is larger than 64 KiB",

	NoName:          "no host name was sent",
	TwoNames:        "more than one host name was sent",
	NameIsAddress:   "host name is an IP address",
	NameTrailingDot: "host name ends in a dot",
	NameTooLong:     "host name is longer than 253 bytes",
	NameBytes:       "host name has a byte that is no letter, digit, hyphen, underscore or dot, or an empty label",
	BadPort:         "port after the host name is not a number from 1 to 65535",

	SSLv2:              "SSLv2 hello",
	BadRecord:          "malformed TLS record",
	NotClientHello:     "first TLS message is not a ClientHello",
	TrailingData:       "data after the ClientHello in its record",
	Malformed:          "malformed ClientHello",
	DuplicateExtension: "ClientHello has an extension twice",
	NameType:           "server_name holds something other than a host name",

	Connect:          "CONNECT request",
	HTTP2Preface:     "HTTP/2 without TLS",
	BadVersion:       "HTTP version is neither 1.0 nor 1.1",
	BadRequestLine:   "malformed request line",
	BadTarget:        "malformed request target",
	TargetNotHost:    "request target and Host differ",
	BareLF:           "line ends in LF without CR",
	BareCR:           "CR without LF",
	ControlByte:      "control byte in the request head",
	ObsFold:          "folded header line",
	SpaceBeforeColon: "white space before the colon of a header",
	BadHeader:        "malformed header line",
}

// String returns the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasons) && reasons[r] != "" {
		return reasons[r]
	}
	return "unknown reason"
}

// Error returns the same text as String.
func (r Reason) Error() string { return r.String() }
