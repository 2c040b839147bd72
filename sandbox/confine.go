package sandbox

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/sandlock/sandlock/internal/launch"
)

// Confine closes to the calling process, and to all that it starts, every file but
// those that the policy's Files.Read and Files.Write name: nothing is open by
// default, and nothing opens it again. It works in the kernel alone, so a policy
// that says anything else is an error that lists what. It needs a program without
// cgo, whose threads Go knows.
func Confine(p *Policy) error {
	if p.Files == nil {
		return errors.New("confine: the policy has no Files")
	}
	var other []string
	note := func(prefix string, v reflect.Value, supported ...string) {
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			known := false
			for _, s := range supported {
				known = known || s == name
			}
			if !known && !v.Field(i).IsZero() {
				other = append(other, prefix+name)
			}
		}
	}
	note("", reflect.ValueOf(*p), "Files")
	note("Files.", reflect.ValueOf(*p.Files), "Read", "Write")
	if len(other) > 0 {
		return fmt.Errorf("confine: only Files.Read and Files.Write work without a supervisor; remove %s", strings.Join(other, ", "))
	}
	c := &Compiled{}
	if err := c.compileFiles(p); err != nil {
		return err
	}
	rules := []launch.FileRule{}
	for _, path := range c.Files.Read {
		rules = append(rules, launch.FileRule{Path: path})
	}
	for _, path := range c.Files.Write {
		rules = append(rules, launch.FileRule{Path: path, Write: true})
	}
	return launch.ConfineFiles(rules)
}
