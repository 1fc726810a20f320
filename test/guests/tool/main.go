// Command tool is a program that a package brings along.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() { fmt.Println("tool says: " + strings.Join(os.Args[1:], " ")) }
