package backend

// What the words of each kind mean. Changing any of this changes the meaning of stored data, hence
// the major version of every stored format.
const (
	// A counter is an integer word (a count below 2^62) and a float word (float64 bits); its value
	// is their sum.
	CounterInt   = 0
	CounterFloat = 1

	// A gauge is a float word and a word that is 1 once the gauge has been set, and not only added to.
	GaugeValue = 0
	GaugeSet   = 1

	// A histogram is a float word with the sum, then a count for each bucket (not cumulative), the
	// last one being the +Inf bucket.
	HistogramSum     = 0
	HistogramBuckets = 1

	// A summary is a count and a float word with the sum.
	SummaryCount = 0
	SummarySum   = 1
)

// Seals mark words that no longer count because their series moved elsewhere. An update that finds
// a seal in its own result has not been counted and goes to the new words. They never show on a page.
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
