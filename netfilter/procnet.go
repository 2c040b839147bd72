package netfilter

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// ProcNet returns what of /proc/net/tcp or tcp6 (proc(5)), as table says, is the
// sandbox's: the sockets on ports that it serves, with the port numbers that it
// sees. The first line is the table's head.
func (f *Filter) ProcNet(table string) ([]byte, error) {
	text, err := os.ReadFile("/proc/net/" + table)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for i, line := range bytes.Split(text, []byte("\n")) {
		if i == 0 {
			b.Write(append(line, '\n'))
			continue
		}
		if line, ok := f.procNetLine(line); ok {
			b.Write(append(line, '\n'))
		}
	}
	return b.Bytes(), nil
}

// procNetLine is a line "sl: ADDR:PORT ADDR:PORT ...", the numbers in hexadecimal.
func (f *Filter) procNetLine(line []byte) ([]byte, bool) {
	const local, remote = 1, 2
	out := append([]byte(nil), line...)
	field, mine := -1, false
	for at := 0; at < len(out) && field < remote; {
		for at < len(out) && out[at] == ' ' {
			at++
		}
		end := at
		for end < len(out) && out[end] != ' ' {
			end++
		}
		if field++; field == local || field == remote {
			colon := at + bytes.LastIndexByte(out[at:end], ':')
			port, err := strconv.ParseUint(string(out[colon+1:end]), 16, 16)
			if colon < at || err != nil || end-colon != len(":FFFF") {
				return nil, false
			}
			if field == local {
				mine = f.served.has(uint16(port))
			}
			copy(out[colon+1:end], fmt.Sprintf("%04X", f.remap.seen(uint16(port))))
		}
		at = end
	}
	return out, mine
}
