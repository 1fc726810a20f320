package client

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"kiln"
)

// The two files a server keeps in its data folder for those who may read it (mode 0600).
const (
	// AddressFile says where the server is; it is written when the server is ready and removed when it ends.
	AddressFile = "server.json"
	// CredentialsFile holds the first access key, which is also the operator's; it is written by the first start.
	CredentialsFile = "credentials.json"

	maxFileBytes = 64 << 10
)

// Address is the content of AddressFile.
type Address struct {
	Endpoint string `json:"endpoint"` // "http://127.0.0.1:4566"
	PID      int    `json:"pid"`
}

// Credentials is the content of CredentialsFile, and the answer to a request for a new key.
type Credentials struct {
	AccessKeyID     string         `json:"accessKeyId"`
	SecretAccessKey string         `json:"secretAccessKey"`
	Account         kiln.AccountID `json:"account"`
	Region          string         `json:"region"`
}

// ReadAddress reads where the server of a data folder is. KindNotFound when none runs there.
func ReadAddress(data string) (Address, error) {
	var a Address
	err := read(data, AddressFile, &a)
	return a, err
}

// ReadCredentials reads a data folder's first access key. KindNotFound when no server ever ran there.
func ReadCredentials(data string) (Credentials, error) {
	var c Credentials
	err := read(data, CredentialsFile, &c)
	return c, err
}

func read(data, name string, into any) error {
	const op = "client: read data folder"
	f, err := os.Open(filepath.Join(data, name))
	if errors.Is(err, fs.ErrNotExist) {
		return kiln.Errorf(kiln.KindNotFound, op, "no Kiln runs with the data folder %s; start one with `kiln serve --data %s`, or give --endpoint", data, data)
	}
	if err != nil {
		return cannotOpen(op, data, name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return kiln.Wrap(kiln.KindInternal, op, "cannot read "+filepath.Join(data, name), err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return kiln.Wrap(kiln.KindCorrupt, op, filepath.Join(data, name)+" is damaged; restart the server", err)
	}
	return nil
}

// cannotOpen says why a file that may be there cannot be opened, and what to do.
func cannotOpen(op, data, name string, err error) error {
	path := filepath.Join(data, name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return kiln.Wrap(kiln.KindDenied, op, "may not read "+path+"; run this as the user that runs the server", err)
	case errors.Is(err, syscall.ENOTDIR):
		return kiln.Wrap(kiln.KindInvalid, op, data+" is no folder; give a server's data folder with --data", err)
	}
	cause := err
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		cause = e.Err
	}
	return kiln.Wrap(kiln.KindUnavailable, op, "cannot open "+path+": "+cause.Error(), err)
}
