package store

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// RedactURL returns what people may see of a URL, in errors, logs and on screens: scheme, host, and
// the parameter ns, a namespace; of heap: and shm: URLs also the path and parameters that are
// valid. Of a URL in which a password may not be where it seems to be, it shows nothing, but a
// remark in parentheses.
func RedactURL(rawURL string) string {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return "(not a URL)"
	case u.Scheme == "heap" || u.Scheme == "shm":
		return redactLocal(u)
	case ambiguous(rawURL):
		return "(not a URL)"
	case u.Scheme == "":
		return "(a URL without a scheme)"
	case u.Opaque != "" || !strings.HasPrefix(rawURL[len(u.Scheme)+1:], "//"):
		return u.Scheme + ":"
	}
	shown := u.Scheme + "://"
	if isHost(u) {
		shown += u.Host
	}
	if ns := u.Query().Get("ns"); ns != "" && strings.IndexFunc(ns, notInNames) < 0 {
		shown += "?ns=" + ns
	}
	return shown
}

func redactLocal(u *url.URL) string {
	if u.User != nil || u.Host != "" || u.Opaque != "" || u.Fragment != "" {
		return u.Scheme + ":"
	}
	shown := u.Scheme + ":"
	if u.Path != "" {
		shown += "//" + u.EscapedPath()
	}
	var shows []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if isLocalParam(pair) {
			shows = append(shows, pair)
		}
	}
	if len(shows) > 0 {
		shown += "?" + strings.Join(shows, "&")
	}
	return shown
}

// isLocalParam reports whether pair is a parameter of a URL of this host's memory with a value that
// is no secret.
func isLocalParam(pair string) bool {
	switch pair {
	case "start=fresh", "start=resume", "share=group", "fs=any":
		return true
	}
	limit, ok := strings.CutPrefix(pair, "limit=")
	if !ok {
		return false
	}
	for _, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(limit, unit); ok {
			limit = n
			break
		}
	}
	_, err := strconv.ParseUint(limit, 10, 64)
	return err == nil
}

// ambiguous reports whether a part of a URL may not be what it seems: if a password has an
// unescaped # / or ?, what is before that looks like a host, and what follows like a path or
// something else. Then there is a # or, after what looks like a host, an @.
func ambiguous(rawURL string) bool {
	if strings.Contains(rawURL, "#") {
		return true
	}
	_, rest, hasHost := strings.Cut(rawURL, "://")
	if !hasHost {
		return strings.Contains(rawURL, "@")
	}
	end := strings.IndexAny(rest, "/?")
	return end >= 0 && strings.Contains(rest[end:], "@")
}

// isHost reports whether u has a name of letters, digits and the like or an address as a host, and
// a port that can be one.
func isHost(u *url.URL) bool {
	if _, err := netip.ParseAddr(u.Hostname()); err != nil &&
		(strings.HasPrefix(u.Host, "[") || strings.Contains(u.Hostname(), ":") || strings.IndexFunc(u.Hostname(), notInNames) >= 0) {
		return false
	}
	n, err := strconv.Atoi(u.Port())
	return u.Port() == "" || err == nil && n > 0 && n < 1<<16
}

func notInNames(r rune) bool {
	return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
}
