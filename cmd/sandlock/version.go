package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

const version = "0.1.0"

func versionCommand(*int) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Printf("sandlock %s (%s/%s, %s)\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}
