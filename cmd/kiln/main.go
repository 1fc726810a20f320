// Command kiln is both the server (kiln serve) and the tool that talks to one (everything else).
//
// The file main.go holds the root command and the rules all commands share: the answer alone goes to standard output
// and everything else to standard error; exit 0 when all went well, 1 when the function failed and for nothing else, 2
// for a mistake in the call or a server that could not do what was asked. Each command is one file, straight from its
// flags to a call of internal/client; nothing is decided here. Commands run one at a time; only the progress line has a
// goroutine, which ends before its command does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/client"
	"kiln/internal/server"
)

// The exit statuses.
const (
	exitFine           = 0
	exitFunctionFailed = 1
	exitMistake        = 2
)

// endWithin bounds how long a command that does not end in order goes on after a signal: it may hang where no context
// reaches, as in reading standard input.
const endWithin = 500 * time.Millisecond

// errFunctionFailed ends a command whose function failed, after it has said how.
var errFunctionFailed = errors.New("the function failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, environ: os.Environ()}
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends the process at once
		time.AfterFunc(endWithin, a.giveUp)
	})
	status := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// app is what every command is given: the streams, the environment and the flags all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	environ        []string

	endpoint, data string
	json           bool

	// orderly says that the command takes the time it needs to end after a signal.
	orderly atomic.Bool
}

// giveUp ends the process of a command that has not ended itself.
func (a *app) giveUp() {
	if a.orderly.Load() {
		return
	}
	fmt.Fprintln(a.stderr, "kiln: broken off")
	os.Exit(exitMistake)
}

// run carries out one command line and gives its exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errFunctionFailed):
		return exitFunctionFailed
	}
	fmt.Fprintln(a.stderr, "kiln: "+explained(err))
	return exitMistake
}

// explained gives an error in words for whoever typed the command.
func explained(err error) string {
	message := err.Error()
	if e, ours := errors.AsType[*kiln.Error](err); ours {
		message = e.Message
		if e.Reason != "" {
			message = e.Reason + ": " + message
		}
	}
	if e, is := errors.AsType[*net.OpError](err); is && e.Op == "listen" { // the system's word: in use, or not permitted
		message += ": " + e.Err.Error()
	}
	return message
}

// root puts the commands together.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "kiln",
		Short:         "Run functions in warm, isolated containers behind the AWS Lambda API",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       server.Version(),

		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return checkFlags(c) },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate("kiln {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.endpoint, "endpoint", "", "the server's address (otherwise AWS_ENDPOINT_URL, otherwise what the data folder says)")
	flags.StringVar(&a.data, "data", "", "the server's data folder (default KILN_DATA, or the one of this user)")
	flags.BoolVar(&a.json, "json", false, "answer in JSON")
	root.AddCommand(a.serveCommand(), a.doctorCommand(), a.envCommand(), a.configCommand(), a.deployCommand(), a.invokeCommand(), a.runCommand(),
		a.logsCommand(), a.backupCommand(), a.restoreCommand(), a.lsCommand(), a.rmCommand(), a.fleetCommand(), a.explainCommand(), a.accountCommand(), a.keyCommand(),
		a.topCommand(), a.poolCommand(), a.simulateCommand(), a.trainCommand(), a.versionCommand())
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": server.Version()})
			}
			fmt.Fprintln(a.stdout, "kiln "+server.Version())
			return nil
		}}
}

// group makes a command of commands: alone it shows its help, and a word it does not know is a mistake.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return mistake("there is no %q in kiln %s; `kiln %s --help` lists what there is", args[0], use, use)
		}
		return c.Help()
	}}
	c.AddCommand(commands...)
	return c
}

// checkFlags refuses values that every command would otherwise take for a flag not given.
func checkFlags(c *cobra.Command) error {
	for _, name := range []string{"timeout", "memory", "limit", "handler", "name", "runtime"} {
		f := c.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		text := f.Value.String()
		n, err := strconv.Atoi(text)
		switch {
		case text == "":
			return mistake("--%s is empty; give one, or leave it out", name)
		case name == "limit" && n < 0:
			return mistake("--limit is %s; give at least 1, or 0 for all", text)
		case name != "limit" && err == nil && f.Value.Type() != "string" && n < 1:
			return mistake("--%s is %s; give at least 1, or leave it out", name, text)
		}
	}
	return nil
}

// dataDir gives the data folder: --data, KILN_DATA, or this user's own, as an absolute path.
func (a *app) dataDir() (string, error) {
	dir := a.data
	if dir == "" {
		dir = a.getenv("KILN_DATA")
	}
	if dir == "" {
		home := map[string]string{"HOME": a.getenv("HOME"), "XDG_DATA_HOME": a.getenv("XDG_DATA_HOME")}
		own, err := server.DefaultData(home)
		if err != nil {
			return "", err
		}
		dir = own
	}
	return filepath.Abs(dir)
}

// connect finds the server and the key: --data names both; otherwise the address is --endpoint's or AWS_ENDPOINT_URL's
// and the key the environment's, and what is missing comes from the data folder. A key of the environment is never
// taken with the data folder's address: it may be one for AWS.
func (a *app) connect() (*client.Client, error) {
	endpoint := a.endpoint
	if endpoint == "" && a.data == "" {
		endpoint = a.getenv("AWS_ENDPOINT_URL")
	}
	key := client.Credentials{AccessKeyID: a.getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: a.getenv("AWS_SECRET_ACCESS_KEY"),
		Account: kiln.AccountID(a.getenv("KILN_ACCOUNT_ID")), Region: a.getenv("AWS_REGION")}
	dir, err := a.dataDir()
	if err != nil {
		return nil, err
	}
	if endpoint == "" || a.data != "" || key.AccessKeyID == "" || key.SecretAccessKey == "" {
		if key, err = client.ReadCredentials(dir); err != nil {
			return nil, err
		}
	}
	if endpoint == "" {
		address, err := client.ReadAddress(dir)
		if err != nil {
			return nil, err
		}
		endpoint = address.Endpoint
	}
	if key.Region == "" {
		key.Region = kiln.DefaultRegion
	}
	if key.Account == "" {
		key.Account = kiln.DefaultAccount
	}
	return client.New(endpoint, key)
}

// mistake makes an error for a command line that cannot be carried out.
func mistake(format string, args ...any) error {
	return kiln.Errorf(kiln.KindInvalid, "kiln: read the command line", format, args...)
}
