package lab

import "testing"

func runTests(m *testing.M) (int, error) {
	if err := startDNS(); err != nil {
		return 1, err
	}
	if err := startOutside(); err != nil {
		return 1, err
	}
	if err := startWeb(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
