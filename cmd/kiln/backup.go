package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"kiln"
	"kiln/internal/backup"
	"kiln/internal/client"
	"kiln/internal/server"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of everything that is not a cache",
		Long: "Writes functions, versions, aliases, accounts, access keys, packages, records, events and logs into FILE, a tar,\n" +
			"as they are at one instant. The server may run or not. FILE holds every access key with its secret: it is made\n" +
			"readable by you alone, and should be kept as keys are kept.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			a.orderly.Store(true) // what it has written so far is taken away
			return a.backup(c.Context(), args[0])
		},
	}
}

// backup writes to a file beside the one named, checks what it writes on the way, and renames it when it is whole.
func (a *app) backup(ctx context.Context, path string) (err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return mistake("%s exists already; name another file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return mistake("cannot write in %s: %v", filepath.Dir(path), err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // when it was not renamed
	r, w := io.Pipe()
	checked := make(chan error, 1)
	var totals backup.Totals
	go func() {
		_, t, err := backup.Read(ctx, r, nil, func(_ string, _ int64, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
		totals = t
		if err == nil {
			_, err = io.Copy(io.Discard, r) // tar's empty blocks
		}
		_ = r.CloseWithError(err)
		checked <- err
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	err = a.writeBackup(ctx, io.MultiWriter(buffered, w))
	_ = w.Close()
	if check := <-checked; err == nil {
		err = check
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(buffered.Flush(), f.Sync(), f.Close(), os.Rename(f.Name(), path)); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "kiln: back up", "cannot write "+path, err)
	}
	fmt.Fprintf(a.stderr, "kiln: %s holds %d files, %d bytes, all checked. Every access key is among them, with its secret: keep it as you keep keys.\n",
		path, totals.Files, totals.Bytes)
	if a.json {
		return a.printJSON(totals)
	}
	return nil
}

// writeBackup reads the data folder when no server uses it, and otherwise asks the server.
func (a *app) writeBackup(ctx context.Context, w io.Writer) error {
	if a.endpoint == "" && (a.data != "" || a.getenv("AWS_ENDPOINT_URL") == "") {
		dir, err := a.dataDir()
		if err != nil {
			return err
		}
		if err := server.Backup(ctx, dir, slog.New(slog.DiscardHandler), w); kiln.KindOf(err) != kiln.KindConflict {
			return err
		}
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	res, err := cl.Do(ctx, client.Request{Method: http.MethodGet, Path: "/kiln/v1/backup"})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, res.Body); err != nil {
		return kiln.Wrap(kiln.KindUnavailable, "kiln: back up", "the backup broke off; the log of the server says why", err)
	}
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data folder of a backup",
		Long: "Makes the data folder (--data) of a backup that `kiln backup` wrote. The folder must be missing or empty. Everything is\n" +
			"checked against the backup's manifest; when anything is wrong the folder is left empty. Start the server afterwards.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return mistake("cannot read the backup: %v", err)
			}
			defer f.Close()
			a.orderly.Store(true) // what it has made so far is taken away
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			head, totals, err := server.Restore(c.Context(), dir, slog.New(slog.DiscardHandler), f)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "kiln: restored %d files, %d bytes, all checked, into %s, from a backup made %s by Kiln %s. It holds every access key: keep it as you keep keys.\n",
				totals.Files, totals.Bytes, dir, head.Made.Format("2006-01-02 15:04:05 UTC"), head.Version)
			if a.json {
				return a.printJSON(totals)
			}
			return nil
		},
	}
}
