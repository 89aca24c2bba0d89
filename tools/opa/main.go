// Command opa is the pinned Open Policy Agent command line, built from the Go
// module so that Portcullis needs no downloaded binary to compile Rego to WASM.
package main

import (
	"os"

	"github.com/open-policy-agent/opa/cmd"
)

func main() {
	if err := cmd.RootCommand.Execute(); err != nil {
		os.Exit(1)
	}
}
