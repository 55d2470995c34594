//! Objects of a frame without parsing JSON: where each ends, and the symbol at its known place.
//!
//! A feed's frame is an array of flat objects, `[{"ev":"T","sym":"AAPL",...},...]`. The end of an object is the first `}`
//! behind an even number of quotes, as long as no escape and no inner object comes before it; what has one goes to the plain
//! walk, which follows strings, escapes and depth. An object that does not begin like a trade is looked at as JSON.

use serde::Deserialize;
use std::borrow::Cow;

/// How a trade begins in the known layout.
const TRADE: &[u8; 17] = b"{\"ev\":\"T\",\"sym\":\"";
/// Longest symbol that the known layout has; a longer one takes the tolerant way.
const SYMBOL_BYTES_MAX: usize = 16;

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A trade and its symbol.
    Trade(Cow<'a, [u8]>),
    /// The feed's answer to a request (`"ev":"status"`).
    Status,
    /// Another message with a symbol.
    Other(Cow<'a, [u8]>),
    /// No symbol, or no JSON: it belongs to no pipe.
    Nameless,
}

/// One object of a frame: its exact bytes and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    pub bytes: &'a [u8],
    pub kind: Kind<'a>,
}

impl Object<'_> {
    /// The object from its symbol on, or the symbol alone where the object has it in another form.
    #[inline]
    pub fn from_symbol<'b>(&'b self, symbol: &'b [u8]) -> &'b [u8] {
        let start = (symbol.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        self.bytes.get(start..).filter(|rest| rest.len() >= symbol.len()).unwrap_or(symbol)
    }
}

/// Gives the objects of one frame. Bytes between objects are passed over; those that are no JSON white space, comma or bracket
/// are counted.
#[derive(Debug)]
pub struct Objects<'a> {
    rest: &'a [u8],
    odd_bytes: u64,
}

impl<'a> Objects<'a> {
    pub fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame, odd_bytes: 0 }
    }

    /// Bytes that belong to no object so far: nonsense, or an object that the frame's end cut off.
    pub fn odd_bytes(&self) -> u64 {
        self.odd_bytes
    }
}

impl<'a> Iterator for Objects<'a> {
    type Item = Object<'a>;

    #[inline]
    fn next(&mut self) -> Option<Object<'a>> {
        loop {
            match self.rest.first()? {
                b'{' => break,
                b',' | b'[' | b']' | b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => self.odd_bytes += 1,
            }
            self.rest = &self.rest[1..];
        }
        if let Some((symbol_end, end)) = known_trade(self.rest) {
            let (bytes, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Some(Object { bytes, kind: Kind::Trade(Cow::Borrowed(&bytes[TRADE.len()..symbol_end])) });
        }
        let Some(end) = object_end(self.rest) else {
            self.odd_bytes += self.rest.len() as u64;
            self.rest = &[];
            return None;
        };
        let (bytes, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(Object { bytes, kind: describe(bytes) })
    }
}

/// What one whole object is.
pub fn kind_of(object: &[u8]) -> Kind<'_> {
    match known_trade(object) {
        Some((symbol_end, _)) => Kind::Trade(Cow::Borrowed(&object[TRADE.len()..symbol_end])),
        None => describe(object),
    }
}

/// A trade in the known layout at the start of `bytes`: where its symbol ends and where it ends itself. None: look closer.
#[inline]
fn known_trade(bytes: &[u8]) -> Option<(usize, usize)> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        // SAFETY: the processor has what the function is compiled for.
        if let found @ Some(_) = unsafe { known_trade_wide(bytes) } {
            return found;
        }
    }
    let behind = bytes.strip_prefix(TRADE)?;
    let window = &behind[..behind.len().min(SYMBOL_BYTES_MAX + 1)];
    let length = memchr::memchr2(b'"', b'\\', window).filter(|&length| length > 0 && window[length] == b'"')?;
    // What was passed is no brace and no escape, and its quotes are even.
    let symbol_end = TRADE.len() + length;
    Some((symbol_end, end_from(bytes, symbol_end + 1)?))
}

/// The tolerant way: any order of keys, any spacing, escapes.
#[cold]
#[inline(never)]
fn describe(object: &[u8]) -> Kind<'_> {
    #[derive(Deserialize)]
    struct Described<'a> {
        #[serde(borrow)]
        ev: Option<Cow<'a, str>>,
        #[serde(borrow)]
        sym: Option<Cow<'a, str>>,
    }
    let Ok(found) = serde_json::from_slice::<Described<'_>>(object) else { return Kind::Nameless };
    let symbol = found.sym.filter(|symbol| !symbol.is_empty()).map(|symbol| match symbol {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    });
    match (found.ev.as_deref(), symbol) {
        (Some("status"), _) => Kind::Status,
        (Some("T"), Some(symbol)) => Kind::Trade(symbol),
        (_, Some(symbol)) => Kind::Other(symbol),
        (_, None) => Kind::Nameless,
    }
}

/// Bytes of the object that begins `bytes`; None where it does not end in them.
#[inline]
pub fn object_end(bytes: &[u8]) -> Option<usize> {
    end_from(bytes, 1)
}

/// As [`object_end`], where everything before `at` is known to hold no brace but the first, no escape and whole strings.
#[inline]
fn end_from(bytes: &[u8], at: usize) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        let flat = match is_wide() {
            // SAFETY: the processor has what the function is compiled for.
            true => unsafe { flat_end_wide(bytes, at, 0) },
            false => flat_end(bytes, at),
        };
        if flat.is_some() {
            return flat;
        }
    }
    walked_end(bytes)
}

/// What the flat search knows about one block: bits of closing braces, of quotes, and of what it cannot follow.
#[cfg(target_arch = "x86_64")]
struct Block {
    close: u32,
    quote: u32,
    odd: u32,
}

/// Goes over one block. The end, or None to go on; an error where only the walk can tell. `quotes` is odd within a string.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn look(block: &Block, at: usize, quotes: &mut u32) -> Result<Option<usize>, ()> {
    // The bits below the first brace; all of them where there is none.
    let before = (block.close & block.close.wrapping_neg()).wrapping_sub(1);
    *quotes ^= block.quote & before;
    match (block.odd & before, block.close) {
        (0, 0) => Ok(None),
        (0, close) if quotes.count_ones().is_multiple_of(2) => Ok(Some(at + close.trailing_zeros() as usize + 1)),
        _ => Err(()),
    }
}

/// Whether the processor can look at 32 bytes at a time.
#[cfg(target_arch = "x86_64")]
#[inline]
fn is_wide() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("bmi1")
}

/// The 32 bytes from `at` on; None where there are not so many.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt,bmi1")]
#[inline]
fn wide_block(bytes: &[u8], at: usize) -> Option<Block> {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    };
    let bytes = bytes.get(at..at + 32)?;
    // SAFETY: the slice has thirty-two bytes.
    let block = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>()) };
    let equals = |byte: u8| _mm256_cmpeq_epi8(block, _mm256_set1_epi8(byte as i8));
    Some(Block {
        close: _mm256_movemask_epi8(equals(b'}')) as u32,
        quote: _mm256_movemask_epi8(equals(b'"')) as u32,
        odd: _mm256_movemask_epi8(_mm256_or_si256(equals(b'\\'), equals(b'{'))) as u32,
    })
}

/// The last 32 bytes without those before `at`, which are fewer.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt,bmi1")]
#[cold]
fn last_block(bytes: &[u8], at: usize) -> Option<Block> {
    let last = wide_block(bytes, bytes.len().checked_sub(32)?)?;
    let known = (at + 32 - bytes.len()) as u32;
    let rest = |bits: u32| bits.checked_shr(known);
    Some(Block { close: rest(last.close)?, quote: rest(last.quote)?, odd: rest(last.odd)? })
}

/// As [`known_trade`], in one pass; None too where the bytes end soon.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn known_trade_wide(bytes: &[u8]) -> Option<(usize, usize)> {
    if !bytes.starts_with(TRADE) {
        return None;
    }
    let mut block = wide_block(bytes, TRADE.len())?;
    let length = block.quote.trailing_zeros() as usize;
    // The bits up to the symbol's end.
    let symbol = block.quote ^ block.quote.wrapping_sub(1);
    if length == 0 || length > SYMBOL_BYTES_MAX || block.odd & symbol != 0 {
        return None;
    }
    (block.quote, block.close) = (block.quote & !symbol, block.close & !symbol);
    let (mut quotes, symbol_end) = (0, TRADE.len() + length);
    let end = match look(&block, TRADE.len(), &mut quotes).ok()? {
        None => flat_end_wide(bytes, TRADE.len() + 32, quotes)?,
        Some(end) => end,
    };
    Some((symbol_end, end))
}

/// The end of a flat object without escapes, 32 bytes at a time, from a place with these quotes behind it; None at anything
/// else and where the bytes end before.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt,bmi1")]
#[inline]
fn flat_end_wide(bytes: &[u8], mut at: usize, mut quotes: u32) -> Option<usize> {
    while let Some(block) = wide_block(bytes, at) {
        match look(&block, at, &mut quotes) {
            Ok(None) => at += 32,
            Ok(end) => return end,
            Err(()) => return None,
        }
    }
    look(&last_block(bytes, at)?, at, &mut quotes).ok()?
}

/// As [`flat_end_wide`], 16 bytes at a time, from a place with whole strings behind it.
#[cfg(target_arch = "x86_64")]
#[inline]
fn flat_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut quotes = 0;
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
    while at + 16 <= bytes.len() {
        // SAFETY: sixteen bytes from `at` lie within the slice; SSE2 belongs to every x86-64.
        let block = unsafe {
            let block = _mm_loadu_si128(bytes.as_ptr().add(at).cast::<__m128i>());
            let equals = |byte: u8| _mm_cmpeq_epi8(block, _mm_set1_epi8(byte as i8));
            Block {
                close: _mm_movemask_epi8(equals(b'}')) as u32,
                quote: _mm_movemask_epi8(equals(b'"')) as u32,
                odd: _mm_movemask_epi8(_mm_or_si128(equals(b'\\'), equals(b'{'))) as u32,
            }
        };
        match look(&block, at, &mut quotes) {
            Ok(None) => at += 16,
            Ok(end) => return end,
            Err(()) => return None,
        }
    }
    None
}

/// The end of any object: strings, escapes and depth are followed byte by byte.
fn walked_end(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => depth += 1,
            b'}' => match depth {
                0 | 1 => return Some(at + 1),
                _ => depth -= 1,
            },
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str =
        r#"{"ev":"T","sym":"AAPL","i":"50578","x":4,"p":215.97,"s":100,"c":[0,12],"t":1611082428813,"z":3}"#;

    fn symbols(frame: &[u8]) -> Vec<String> {
        let text = |kind| match kind {
            Kind::Trade(symbol) => format!("T {}", String::from_utf8_lossy(&symbol)),
            Kind::Other(symbol) => format!("O {}", String::from_utf8_lossy(&symbol)),
            Kind::Status => "status".into(),
            Kind::Nameless => "nameless".into(),
        };
        Objects::new(frame).map(|object| text(object.kind)).collect()
    }

    #[test]
    fn odd_frames_give_what_can_be_routed_and_nothing_else() {
        assert_eq!(symbols(b""), [""; 0]);
        assert_eq!(symbols(b"[]"), [""; 0]);
        assert_eq!(symbols(b"[{}]"), ["nameless"]);
        assert_eq!(symbols(br#"[{"ev":"T"}]"#), ["nameless"]);
        assert_eq!(symbols(br#"[{"ev":"T","sym":""}]"#), ["nameless"]);
        assert_eq!(symbols(br#"[{"ev":"status","status":"connected"}]"#), ["status"]);
        assert_eq!(symbols(br#" [ {"p":1, "sym" : "A}{\"", "ev":"T"} , {"ev":"Q","sym":"B"}]"#), ["T A}{\"", "O B"]);
        assert_eq!(symbols(br#"[{"ev":"T","sym":"A","n":{"a":"}"}},{"ev":"T","sym":"B"}]"#), ["T A", "T B"]);
        assert_eq!(symbols(format!("[{SAMPLE},{SAMPLE}]").as_bytes()), ["T AAPL", "T AAPL"]);
        let mut cut = Objects::new(br#"x[{"ev":"T","sym":"A""#);
        assert!(cut.next().is_none() && cut.odd_bytes() > 10);
    }

    /// Values as serde_json writes them, with what hurts a scanner in their strings.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let text = r#"[ -~éß"\\{}\[\],]{0,24}"#;
        let leaf = prop_oneof![
            text.prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(3, 12, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::hash_map(text, inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The plain twin is a JSON parser: the objects of a frame, byte for byte, with their symbols.
        #[test]
        fn objects_are_those_of_a_json_parser(
            fields in prop::collection::vec((r#"[A-Za-z."\\]{1,18}"#, value(), any::<bool>()), 0..8)
        ) {
            let objects: Vec<serde_json::Value> = fields
                .iter()
                .map(|(symbol, value, first)| match first {
                    true => serde_json::json!({"ev": "T", "sym": symbol, "v": value}),
                    false => serde_json::json!({"a": value, "ev": "T", "sym": symbol}),
                })
                .collect();
            let frame = serde_json::to_vec(&objects).unwrap();
            let found: Vec<_> = Objects::new(&frame).collect();
            prop_assert_eq!(found.len(), objects.len());
            for ((found, object), (symbol, ..)) in found.iter().zip(&objects).zip(&fields) {
                prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(found.bytes).unwrap(), object);
                prop_assert_eq!(&found.kind, &Kind::Trade(Cow::Borrowed(symbol.as_bytes())));
            }
        }

        /// Any bytes: both ways to an object's end agree, and nothing crashes.
        #[test]
        fn the_fast_end_is_the_walked_end(bytes in r#"\{[a"\\{}:,]{0,80}"#, long in r#"\{[a:,]{0,70}["a]{0,4}[a"\\{}]{0,9}"#) {
            for bytes in [bytes.as_bytes(), long.as_bytes()] {
                prop_assert_eq!(object_end(bytes), walked_end(bytes));
                #[cfg(target_arch = "x86_64")]
                prop_assert_eq!(flat_end(bytes, 1).or(walked_end(bytes)), walked_end(bytes));
            }
        }
    }
}
