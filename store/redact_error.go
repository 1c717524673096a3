package store

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// RedactError returns err without what its text has of a URL, or of parts of it, escaped or not,
// besides what [RedactURL] shows, the path of a URL without a host, further hosts in parameters
// addr, and the names of parameters that consist of letters. The same goes for the URLs of each
// url.Error that err wraps, such as that of a redirect, and of the proxies in the environment. In
// the result, errors.Is and errors.As find what err wraps; errors.Unwrap does not, since nothing is
// removed from the texts of that. If there is nothing to remove, RedactError returns err itself.
//
// A secret of less than four bytes is found only between quotes, after = and before @, and a word
// only as a word: to remove it everywhere would make texts unreadable, and tell the secret. Parts
// of a secret are not found, such as the beginning that a server quotes of a long one.
//
// gotheus does this for the errors of drivers and stores.
func RedactError(err error, rawURL string) error {
	if err == nil {
		return nil
	}
	urls := appendURLs([]string{rawURL}, err)
	old := err.Error()
	if strings.Contains(old, "proxy") {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
			urls = append(urls, os.Getenv(name), os.Getenv(strings.ToLower(name)))
		}
	}
	text := old
	for _, u := range urls {
		for _, whole := range wholes(u) {
			text = strings.ReplaceAll(text, whole, RedactURL(u))
		}
	}
	for _, u := range urls {
		for _, secret := range secrets(u) {
			text = hide(text, secret)
		}
	}
	if text == old {
		return err
	}
	return &redacted{text, err}
}

// appendURLs appends the URLs of all url.Errors that err wraps.
func appendURLs(urls []string, err error) []string {
	if at, ok := err.(*url.Error); ok && at != nil {
		urls = append(urls, at.URL)
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return appendURLs(urls, err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range err.Unwrap() {
			urls = appendURLs(urls, err)
		}
	}
	return urls
}

// redacted is an error with its text replaced.
type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string        { return r.text }
func (r *redacted) Is(target error) bool { return errors.Is(r.err, target) }
func (r *redacted) As(target any) bool   { return errors.As(r.err, target) }

// hidden stands for what is not shown.
const hidden = "xxxxx"

// hide hides a secret in a text.
func hide(text, secret string) string {
	if len(secret) < 4 { // It may be anywhere by chance, so what is around it must fit.
		for _, around := range [][2]string{{":", "@"}, {"//", "@"}, {`"`, `"`}, {"'", "'"}, {"`", "`"}} {
			text = strings.ReplaceAll(text, around[0]+secret+around[1], around[0]+hidden+around[1])
		}
		return hideWord(text, "="+secret, "="+hidden)
	}
	if strings.Trim(secret, letters) != "" {
		return strings.ReplaceAll(text, secret, hidden)
	}
	return hideWord(text, secret, hidden)
}

// hideWord replaces a secret where it is not a part of an ordinary word: to hide a part of one
// would tell the secret.
func hideWord(text, secret, shown string) string {
	var b strings.Builder
	done := 0
	for {
		i := strings.Index(text[done:], secret)
		if i < 0 {
			b.WriteString(text[done:])
			return b.String()
		}
		at, end := done+i, done+i+len(secret)
		b.WriteString(text[done:at])
		if secret[0] != '=' && inWord(text, at-1) && !endsEscaped(text[:at]) || inWord(text, end) {
			b.WriteString(secret)
		} else {
			b.WriteString(shown)
		}
		done = end
	}
}

// endsEscaped reports whether a text ends with a character that is escaped, as in a URL, however
// often, or in a text in quotes. What follows is not in the same word.
func endsEscaped(text string) bool {
	i := strings.LastIndexAny(text, `%\`)
	if i < 0 {
		return false
	}
	switch c := text[i+1:]; {
	case strings.Trim(c, "0123456789abcdefABCDEF") == "" && text[i] == '%':
		return len(c) >= 2 && len(c)%2 == 0
	case text[i] == '%' || c == "":
		return false
	default:
		n := map[byte]int{'x': 3, 'u': 5, 'U': 9}[c[0]]
		return len(c) == max(n, 1)
	}
}

// inWord reports whether s has a letter or digit at i.
func inWord(s string, i int) bool {
	return i >= 0 && i < len(s) && (s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z' || s[i] >= '0' && s[i] <= '9')
}

// wholes returns the forms in which a whole URL may be in a text, the longest first.
func wholes(rawURL string) (list []string) {
	add := func(s string) {
		for _, s := range []string{s, quoted(s), strings.TrimSpace(s)} {
			if len(s) > 4 {
				list = append(list, s)
			}
		}
	}
	add(rawURL)
	if u, err := url.Parse(rawURL); err == nil {
		add(u.String())
		add(u.Redacted())
	}
	return longestFirst(list)
}

// secrets returns the texts that must not be seen of a URL, in all forms that they may have, the
// longest first.
func secrets(rawURL string) (list []string) {
	shows := make(map[string]bool)
	u, err := url.Parse(rawURL)
	rest := afterScheme(rawURL)
	sure := err == nil && !ambiguous(rawURL)
	if sure && isHost(u) {
		shows[u.Host], shows[u.Hostname()], shows[u.Port()] = true, true, true
		for part := range splitSeq(u.Host) {
			shows[part] = true
		}
	}
	if sure {
		ns := u.Query().Get("ns")
		shows["ns="+ns], shows[ns] = true, strings.IndexFunc(ns, notInNames) < 0
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			if name, _, ok := strings.Cut(pair, "="); ok && strings.Trim(name, letters) == "" {
				shows[name] = true
			}
		}
		// Errors say which server they are about, and remedies may have cluster=true.
		for _, addr := range u.Query()["addr"] {
			if isHost(&url.URL{Host: addr}) {
				shows[addr] = true
				for part := range splitSeq(addr) {
					shows[part] = true
				}
			}
		}
		shows["true"], shows["false"] = true, true
		// The path of a file is shown.
		if u.User == nil && strings.HasPrefix(rest, "/") && strings.Contains(rawURL, ":///") {
			for _, path := range []string{u.Path, u.EscapedPath()} {
				shows[strings.Trim(path, "/")] = true
				for part := range splitSeq(path) {
					shows[part] = true
				}
			}
			rest = u.RawQuery
		}
	}
	add := func(s string) {
		if s = strings.Trim(s, "/"); s == "" || shows[s] {
			return
		}
		list = append(list, s, quoted(s))
		for _, plain := range []string{s, unescaped(s, url.PathUnescape), unescaped(s, url.QueryUnescape)} {
			if plain != "" && !shows[plain] {
				list = append(list, plain, quoted(plain), inASCII(plain), inJSON.Replace(quoted(plain)),
					url.QueryEscape(plain), url.PathEscape(plain), base64.StdEncoding.EncodeToString([]byte(plain)))
			}
		}
	}
	// What is what may not be sure, so it is split at every character that can separate parts.
	split := func(rest string) {
		add(rest)
		for part := range splitSeq(rest) {
			add(part)
			for part := range strings.FieldsFuncSeq(part, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				add(part)
			}
		}
	}
	split(rest)
	if err == nil {
		if rest != u.RawQuery {
			split(afterScheme(u.String())) // as it escapes them
		}
		add(u.User.String())
		add(u.User.Username())
		if password, ok := u.User.Password(); ok {
			add(password)
			add(u.User.Username() + ":" + password)
		}
		_, password, _ := strings.Cut(u.User.String(), ":")
		add(password)
		add(u.Opaque)
		add(u.Path)
		add(u.EscapedPath())
		add(u.Fragment)
		add(u.EscapedFragment())
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			_, value, _ := strings.Cut(pair, "=")
			add(value)
		}
	}
	return longestFirst(list)
}

func afterScheme(rawURL string) string {
	if _, rest, ok := strings.Cut(rawURL, "://"); ok {
		return rest
	}
	if u, err := url.Parse(rawURL); err == nil && u.Scheme != "" {
		return rawURL[len(u.Scheme)+1:]
	}
	return rawURL
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-."

// splitSeq splits a text at the characters that separate the parts of a URL.
func splitSeq(s string) func(yield func(string) bool) {
	return strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune("/@?#&=:;,[]", r) })
}

// quoted returns s as %q writes it, without the quotes.
func quoted(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// inASCII returns s as %+q writes it, without the quotes.
func inASCII(s string) string {
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}

// inJSON makes of what quoted returns what encoding/json writes.
var inJSON = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`)

func unescaped(s string, unescape func(string) (string, error)) string {
	plain, err := unescape(s)
	if err != nil {
		return ""
	}
	return plain
}

func longestFirst(list []string) []string {
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.DeleteFunc(slices.Compact(list), func(s string) bool { return s == "" || s == hidden })
}
