package store_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/store"
)

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]string{
		"heap:": "heap:", "shm:///dev/shm/shop?limit=64MiB&start=fresh": "shm:///dev/shm/shop?limit=64MiB&start=fresh",
		"shm:///dev/shm/a@b": "shm:///dev/shm/a@b", "shm:///x?password=secret&fs=any": "shm:///x?fs=any", "shm:///x?start=secret": "shm:///x",
		"shm://u:secret@h/x": "shm:", "shm:secret": "shm:", "shm:///x#secret": "shm:",
		"redis://h": "redis://h", "redis://u:secret@h:6379/secret?ns=shop&pasword=secret": "redis://h:6379?ns=shop", "redis://[::1]:6379": "redis://[::1]:6379",
		"redis://h?ns=a/secret": "redis://h", "redis://u:12/secret@h": "(not a URL)", "redis://12#secret": "(not a URL)", "redis://h:123456": "redis://",
		"redis://h,secret": "redis://", "redis://h:1secret:": "redis://", "redis://[secret]:1": "(not a URL)", "map:secret": "map:", "map:/secret": "map:", "u:secret@h": "(not a URL)", "u:secret": "u:",
		"//u:secret@h": "(not a URL)", "/secret": "(a URL without a scheme)", "redis://u:se%zzcret@h": "(not a URL)",
	} {
		if got := store.RedactURL(rawURL); got != want {
			t.Errorf("%s is shown as %s, want %s", rawURL, got, want)
		}
	}
}

// However a password is written, nothing of it is shown.
func FuzzRedactURL(f *testing.F) {
	for _, password := range []string{"secret", "#/?", "12/", "12?ns=", "@", "%", "[", "1:2@3/", "@h/#"} {
		f.Add("redis://user:", password, "@h:1/0?ns=shop")
		f.Add("shm:///x?a=", password, "&fs=any")
		f.Add("redis://h:1?password=", password, "")
	}
	f.Fuzz(func(t *testing.T, before, password, after string) {
		switch {
		case before == "redis://user:" && strings.HasPrefix(after, "@"), before == "shm:///x?a=", before == "redis://h:1?password=":
		default:
			return // not a place for a password
		}
		for _, p := range []string{password + "Zq9", url.QueryEscape(password + "Zq9")} {
			if strings.Contains(before, "?") && strings.Contains(p, "&") {
				continue // it may end there, and be followed by anything
			}
			if got := store.RedactURL(before + p + after); strings.Contains(got, "Zq9") && !strings.Contains(after, "Zq9") {
				t.Errorf("%s%s%s is shown as %s", before, p, after, got)
			}
		}
	})
}
