package backend

// What the words of each kind mean. Changing any of this changes the meaning of stored data, hence
// the major version of every stored format.
const (
	// A counter is an integer word (a count below 2^62) and a float word (float64 bits); its value
	// is their sum.
	CounterInt   = 0
	CounterFloat = 1

	// A gauge is a float word and a word of flags. In modes other than Shared, it has these for each
	// instance, and a third word with the ticket of the last Set, see Backend.Tickets.
	GaugeValue  = 0
	GaugeFlags  = 1
	GaugeTicket = 2

	// Flags of a gauge. The bits from GaugeTouch on count updates where they are to be noticed even if
	// they do not change the value.
	GaugeIsSet  = 1 << 0 // has been set, and not only added to
	GaugeJoined = 1 << 1 // has been set or added to, where that makes a difference
	GaugeTouch  = 1 << 2

	// A histogram is a float word with the sum, then a count for each bucket (not cumulative), the
	// last one being the +Inf bucket.
	HistogramSum     = 0
	HistogramBuckets = 1

	// A summary is a count and a float word with the sum.
	SummaryCount = 0
	SummarySum   = 1
)

// Seals mark words that no longer count because their series moved elsewhere or was deleted. An update that
// finds a seal in its own result has not been counted; it goes to where the series is now, or brings it
// back from zero. A sealed word counts as zero; a series whose words are all sealed does not exist.
//
//	integer word   bit 63        sealed
//	               bits 0..62    count, kept below 2^62 by diverting to the float word
//	float word     SealedFloat   sealed; a NaN that no update ever stores
//	               other bits    float64
const (
	SealedInt   uint64 = 1 << 63
	SealedFloat uint64 = 0x7ff8_6f74_6865_7573

	// IntLimit is the value from which on a counter's integer word takes no further Add: what
	// comes then goes to the float word, so that an integer word never runs into its seal.
	IntLimit uint64 = 1 << 62
)

// seal returns the seal of a word of f, and false for words that are never sealed.
func (f *Family) seal(i int) (uint64, bool) {
	float := -1
	switch f.Kind {
	case Counter:
		float = CounterFloat
	case Gauge:
		if i != GaugeValue {
			return 0, false
		}
		float = GaugeValue
	case Histogram:
		float = HistogramSum
	case Summary:
		float = SummarySum
	}
	if i == float {
		return SealedFloat, true
	}
	return SealedInt, true
}

func isSealed(v, seal uint64) bool {
	return v == seal || seal == SealedInt && v > seal // an update that came too late has added to it
}

// SealedAt reports whether one word of a series of f is sealed.
func (f *Family) SealedAt(w Words, i int) bool {
	seal, ok := f.seal(i)
	return ok && isSealed(w[i].Load(), seal)
}

// Seal seals the words of a series of f and reports whether any of them counted until then.
func (f *Family) Seal(w Words) (counted bool) {
	for i := range w {
		if seal, ok := f.seal(i); ok && !isSealed(w[i].Swap(seal), seal) {
			counted = true
		}
	}
	return counted
}

// Unseal makes the sealed words of a series of f count again, from zero. It may be called by several
// processes at once, and while others update the words.
func (f *Family) Unseal(w Words) {
	for i := range w {
		seal, ok := f.seal(i)
		for v := w[i].Load(); ok && isSealed(v, seal); v = w[i].Load() {
			if w[i].CompareAndSwap(v, 0) {
				break
			}
		}
	}
}

// Sealed reports whether all words of a series of f are sealed: it does not exist.
func (f *Family) Sealed(w Words) bool {
	for i := range w {
		if seal, ok := f.seal(i); ok && !isSealed(w[i].Load(), seal) {
			return false
		}
	}
	return true
}
