// Package rule decides about HTTP requests: rules by method, host and path, the
// one canonical form of a request, and the policy whose Decide is the one decision
// about a request, whichever way it came. It does no input or output and depends on
// neither net/http nor net/url, so that the supervisor can read rules without
// starting an HTTP stack.
//
// Servers do not agree on what some paths mean: an encoded slash, a parameter after
// a semicolon, an empty segment. Such a path is forwarded as one canonical text,
// and judged in every reading that a server may make of it: a deny rule has to cover
// one reading, the allow rules together have to cover all. What no honest client
// sends (hidden dot segments, backslashes, control characters, bytes that are not
// UTF-8) is refused.
package rule
