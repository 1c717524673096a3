// Package sqlite keeps metrics in an SQLite file shared by the processes of one machine. It is the
// example in docs/store.md, and a starting point for other stores.
package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	_ "modernc.org/sqlite" // a driver in pure Go

	"github.com/gotheus/gotheus/store"
)

// Importing this package makes gotheus.Bind and GOTHEUS_BACKEND accept
// sqlite:///var/lib/shop/metrics.db.
func init() {
	store.Register("sqlite", func(ctx context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
		if u.Host != "" || u.Path == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("sqlite: %w: URL %q: must be sqlite:// and the absolute path of a file", store.ErrInvalid, store.RedactURL(u.String()))
		}
		return Open(ctx, u.Path)
	})
}

// file is a store.Store.
type file struct{ db *sql.DB }

const schema = `
CREATE TABLE IF NOT EXISTS heads (name TEXT PRIMARY KEY, value BLOB NOT NULL, put INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (grp TEXT, part INTEGER, value BLOB NOT NULL, PRIMARY KEY (grp, part));`

// now is in ms, by the clock of the machine that executes the statement.
const now = `CAST(unixepoch('subsec') * 1000 AS INTEGER)`

// Open opens a file for gotheus.BindStore, and creates it if it does not exist. Any number of
// processes may have it open.
func Open(ctx context.Context, path string) (*store.Config, error) {
	// Transactions lock the file when they begin, so commits take effect one after another;
	// they wait at most a second for the lock. With a write-ahead log, readers and writers do
	// not wait for each other.
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(1000)", "journal_mode(WAL)", "synchronous(NORMAL)"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %s: %w", path, err), db.Close())
	}
	return &store.Config{Shards: []store.Store{&file{db}}}, nil
}

// Heads implements store.Store. One statement sees the file as of one moment.
func (s *file) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	query, args := `SELECT name, value, `+now+` - put FROM heads`, make([]any, len(names))
	if names != nil {
		query += ` WHERE name IN (` + strings.Join(slices.Repeat([]string{"?"}, len(names)), ", ") + `)`
		for i, name := range names {
			args[i] = name
		}
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	heads := make(map[string]store.Head)
	for rows.Next() {
		var name string
		var h store.Head
		var ms int64
		if err := rows.Scan(&name, &h.Value, &ms); err != nil {
			return nil, err
		}
		h.Age = time.Duration(ms) * time.Millisecond
		heads[name] = h
	}
	return heads, rows.Err()
}

// Get implements store.Store.
func (s *file) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	get, err := s.db.PrepareContext(ctx, `SELECT value FROM parts WHERE grp = ? AND part = ?`)
	if err != nil {
		return nil, err
	}
	defer get.Close()
	parts := make([][]byte, len(keys))
	for i, k := range keys {
		switch err := get.QueryRowContext(ctx, k.Group, k.Part).Scan(&parts[i]); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return nil, err
		case parts[i] == nil: // the driver's result for an empty value
			parts[i] = []byte{}
		}
	}
	return parts, nil
}

// Commit implements store.Store.
func (s *file) Commit(ctx context.Context, c *store.Commit) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after tx.Commit
	for name, want := range c.If {
		var have []byte
		err := tx.QueryRowContext(ctx, `SELECT value FROM heads WHERE name = ?`, name).Scan(&have)
		exists := err == nil
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if exists != (want != nil) || !bytes.Equal(have, want) {
			return fmt.Errorf("sqlite: head %s: %w", name, store.ErrConflict)
		}
	}
	if err := apply(ctx, tx, c); err != nil {
		return err
	}
	return tx.Commit()
}

// apply makes the changes of a commit.
func apply(ctx context.Context, tx *sql.Tx, c *store.Commit) error {
	for _, group := range c.Drop {
		if _, err := tx.ExecContext(ctx, `DELETE FROM parts WHERE grp = ?`, group); err != nil {
			return err
		}
	}
	for name, v := range c.Heads {
		var err error
		if v == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM heads WHERE name = ?`, name)
		} else {
			_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO heads VALUES (?, ?, `+now+`)`, name, v)
		}
		if err != nil {
			return err
		}
	}
	for k, v := range c.Parts {
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO parts VALUES (?, ?, ?)`, k.Group, k.Part, v); err != nil {
			return err
		}
	}
	return nil
}

// Close implements store.Store.
func (s *file) Close() error { return s.db.Close() }
