package backend

import (
	"net/url"
	"strings"
)

// Redact returns a URL for logs and errors, without the password that it may have, in front of the
// host or as a parameter whose name has "password" in it.
func Redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(not a URL)"
	}
	q, secret := u.Query(), false
	for name := range q {
		if strings.Contains(name, "password") {
			q[name], secret = []string{"xxxxx"}, true
		}
	}
	if secret {
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}
