package image

import (
	"encoding/binary"
	"errors"
)

// noRandom is getrandom that answers ENOSYS: libraries then make the system call.
var noRandom = []byte{
	0xf3, 0x0f, 0x1e, 0xfa, // endbr64
	0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, // mov rax, -38
	0xc3, // ret
}

// code is a function under construction at an offset of the vDSO.
type code struct {
	at uint64
	b  []byte
}

func (c *code) add(b ...byte)  { c.b = append(c.b, b...) }
func (c *code) word64(v int64) { c.b = binary.LittleEndian.AppendUint64(c.b, uint64(v)) }
func (c *code) word32(v int32) { c.b = binary.LittleEndian.AppendUint32(c.b, uint32(v)) }
func (c *code) call(to uint64) {
	c.add(0xe8)
	c.word32(int32(int64(to) - int64(c.at) - int64(len(c.b)) - 4))
}
func (c *code) jump(op byte) int { c.add(op, 0); return len(c.b) } // a short one, to be landed

// land lets the jumps that end at the given places lead here.
func (c *code) land(jumps ...int) {
	for _, j := range jumps {
		c.b[j-1] = byte(len(c.b) - j)
	}
}

// Short conditional jumps.
const (
	ifZero    = 0x74
	ifNotZero = 0x75
	ifLess    = 0x7c
)

// clocks are the edits that add offset nanoseconds to the wall clock. The new
// functions call the old ones, which stay as they are, and are found by their
// names: every C library and Go look them up in the table of symbols at their
// start.
func clocks(l *Layout, offset int64) ([]edit, error) {
	const second = 1e9
	secs, nanos := offset/second, offset%second
	if nanos < 0 {
		secs, nanos = secs-1, nanos+second
	}
	var out []edit
	next := l.room
	put := func(c code, names ...string) uint64 {
		out = append(out, edit{c.at, c.b})
		for _, n := range names {
			if s, ok := l.symbols[n]; ok {
				out = append(out, s.points(c.at))
			}
		}
		next = (c.at + uint64(len(c.b)) + 15) &^ 15
		return c.at
	}
	old, ok := l.symbols["__vdso_clock_gettime"]
	if !ok {
		return nil, errors.New("there is no clock_gettime")
	}
	gettime := put(clockGettime(next, old.value, secs, int32(nanos)), "__vdso_clock_gettime", "clock_gettime")
	if s, ok := l.symbols["__vdso_gettimeofday"]; ok {
		put(gettimeofday(next, s.value, secs, int32(nanos/1000)), "__vdso_gettimeofday", "gettimeofday")
	}
	if _, ok := l.symbols["__vdso_time"]; ok {
		put(timeFunction(next, gettime), "__vdso_time", "time")
	}
	if next > l.end {
		return nil, errors.New("it leaves no room for code")
	}
	return out, nil
}

// clockGettime is int clock_gettime(clockid_t edi, struct timespec *rsi): the old
// one, and the offset for CLOCK_REALTIME, CLOCK_REALTIME_COARSE and CLOCK_TAI.
func clockGettime(at, old uint64, secs int64, nanos int32) code {
	c := code{at: at}
	c.add(0xf3, 0x0f, 0x1e, 0xfa)         // endbr64
	c.add(0x57, 0x56)                     // push rdi; push rsi
	c.add(0x48, 0x83, 0xec, 0x08)         // sub rsp, 8
	c.call(old)                           //
	c.add(0x48, 0x83, 0xc4, 0x08)         // add rsp, 8
	c.add(0x5e, 0x5f)                     // pop rsi; pop rdi
	c.add(0x85, 0xc0)                     // test eax, eax
	failed := c.jump(ifNotZero)           //
	c.add(0x85, 0xff)                     // test edi, edi
	realtime := c.jump(ifZero)            //
	c.add(0x83, 0xff, 0x05)               // cmp edi, CLOCK_REALTIME_COARSE
	coarse := c.jump(ifZero)              //
	c.add(0x83, 0xff, 0x0b)               // cmp edi, CLOCK_TAI
	other := c.jump(ifNotZero)            //
	c.land(realtime, coarse)              //
	c.shift(0x06, secs, 0x56, nanos, 1e9) // [rsi]
	c.land(failed, other)
	c.add(0xc3) // ret
	return c
}

// gettimeofday is int gettimeofday(struct timeval *rdi, void *rsi); rdi may be null.
func gettimeofday(at, old uint64, secs int64, micros int32) code {
	c := code{at: at}
	c.add(0xf3, 0x0f, 0x1e, 0xfa)          // endbr64
	c.add(0x57)                            // push rdi
	c.add(0x48, 0x83, 0xec, 0x10)          // sub rsp, 16
	c.call(old)                            //
	c.add(0x48, 0x83, 0xc4, 0x10)          // add rsp, 16
	c.add(0x5f)                            // pop rdi
	c.add(0x85, 0xc0)                      // test eax, eax
	failed := c.jump(ifNotZero)            //
	c.add(0x48, 0x85, 0xff)                // test rdi, rdi
	null := c.jump(ifZero)                 //
	c.shift(0x07, secs, 0x57, micros, 1e6) // [rdi]
	c.land(failed, null)
	c.add(0xc3) // ret
	return c
}

// timeFunction is time_t time(time_t *rdi) by the new clock_gettime, so that its
// second is the same one; rdi may be null.
func timeFunction(at, gettime uint64) code {
	c := code{at: at}
	c.add(0xf3, 0x0f, 0x1e, 0xfa) // endbr64
	c.add(0x57)                   // push rdi
	c.add(0x48, 0x83, 0xec, 0x10) // sub rsp, 16
	c.add(0xbf)                   // mov edi, CLOCK_REALTIME_COARSE
	c.word32(5)                   //
	c.add(0x48, 0x89, 0xe6)       // mov rsi, rsp
	c.call(gettime)               //
	c.add(0x48, 0x8b, 0x04, 0x24) // mov rax, [rsp]
	c.add(0x48, 0x83, 0xc4, 0x10) // add rsp, 16
	c.add(0x5f)                   // pop rdi
	c.add(0x48, 0x85, 0xff)       // test rdi, rdi
	null := c.jump(ifZero)        //
	c.add(0x48, 0x89, 0x07)       // mov [rdi], rax
	c.land(null)
	c.add(0xc3) // ret
	return c
}

// shift adds to a pair of seconds and parts of a second. The modes select the
// register that points to it, for a plain operand and for one 8 bytes behind.
func (c *code) shift(plain byte, secs int64, behind byte, parts, second int32) {
	c.add(0x49, 0xb8) // mov r8, secs
	c.word64(secs)
	c.add(0x4c, 0x01, plain)        // add [p], r8
	c.add(0x48, 0x8b, behind, 0x08) // mov rdx, [p+8]
	c.add(0x48, 0x81, 0xc2)         // add rdx, parts
	c.word32(parts)
	c.add(0x48, 0x81, 0xfa) // cmp rdx, second
	c.word32(second)
	small := c.jump(ifLess)
	c.add(0x48, 0x81, 0xea) // sub rdx, second
	c.word32(second)
	c.add(0x48, 0xff, plain) // inc [p]
	c.land(small)
	c.add(0x48, 0x89, behind, 0x08) // mov [p+8], rdx
}
