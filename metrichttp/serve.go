package metrichttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gotheus/gotheus"
)

// ListenAndServe serves h (nil for the zero Handler) at /metrics on a TCP address like
// "localhost:9100" until ctx ends. It then shuts down gracefully: it waits for scrapes in flight
// for at most five seconds. It is for programs without an HTTP server. It returns nil after ctx has
// ended, and an error at once if it cannot listen; the error wraps gotheus.ErrInvalid if ctx is
// nil.
func ListenAndServe(ctx context.Context, addr string, h *Handler) error {
	if ctx == nil {
		return fmt.Errorf("%w: ListenAndServe: the context is nil", gotheus.ErrInvalid)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return Serve(ctx, listener, h)
}

// Serve is ListenAndServe on a listener, which it closes. The error wraps gotheus.ErrInvalid if ctx
// or the listener is nil.
func Serve(ctx context.Context, listener net.Listener, h *Handler) error {
	switch {
	case ctx == nil:
		return fmt.Errorf("%w: Serve: the context is nil", gotheus.ErrInvalid)
	case listener == nil:
		return fmt.Errorf("%w: Serve: the listener is nil", gotheus.ErrInvalid)
	}
	if h == nil {
		h = new(Handler)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", h)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second, // requests have no body
		WriteTimeout:      max(h.Timeout, 10*time.Second) + 5*time.Second,
		IdleTimeout:       5 * time.Minute, // longer than the usual scrape interval
		MaxHeaderBytes:    64 << 10,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-done
	return err
}
