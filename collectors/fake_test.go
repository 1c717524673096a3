package collectors

import (
	"context"
	"database/sql/driver"
	"errors"
)

// fakeConnector is a database whose connections can do nothing.
type fakeConnector struct{}

func (c fakeConnector) Connect(context.Context) (driver.Conn, error) { return fakeConn{}, nil }
func (c fakeConnector) Driver() driver.Driver                        { return nil }

type fakeConn struct{}

var errFake = errors.New("this is no database")

func (fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errFake }
func (fakeConn) Begin() (driver.Tx, error)           { return nil, errFake }
func (fakeConn) Close() error                        { return nil }
