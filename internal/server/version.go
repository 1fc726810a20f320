package server

import (
	"runtime"
	"runtime/debug"
)

// Version is this program's version, as the build noted it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "development"
	}
	return info.Main.Version
}

// nodeArchitecture is this machine's, in AWS's words.
func nodeArchitecture() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}
