// Package manager is one fleet's instance manager.
package manager
