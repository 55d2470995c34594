//! The CRC32 (IEEE) of a text made of parts, from the parts' own: a part that changes is summed anew, the others are not.
//!
//! Without its start value and final complement a CRC is linear: the sum of each part's value times x to the power of the bits
//! behind the part, modulo the polynomial. So a text of twenty parts is twenty carry-less multiplications, which do not
//! wait for each other, and one reduction, wherever its parts begin. Bits are reflected as everywhere with this CRC.

/// A part of a text: its CRC from start value 0, without the final complement, and its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub crc: u32,
    pub length: u32,
}

const POLYNOMIAL: u32 = 0xEDB8_8320;
/// `SLICES[k][b]` is the CRC of byte b and k zero bytes behind it.
static SLICES: [[u32; 256]; 8] = slices();
/// Bytes behind a part for which the power stands in the table; a text of twenty usual levels has 300.
const POWERS: usize = 1024;
/// x to the power of 8n - 33. What a carry-less product of two reflected numbers lacks (one bit) and what a CRC adds to it
/// (32) is taken off here, so that the product's CRC is the value itself.
static POWER: [u32; POWERS] = powers();

const fn slices() -> [[u32; 256]; 8] {
    let mut slices = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        slices[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = slices[slice - 1][byte];
            slices[slice][byte] = (before >> 8) ^ slices[0][(before & 0xFF) as usize];
            byte += 1;
        }
        slice += 1;
    }
    slices
}

const fn powers() -> [u32; POWERS] {
    let mut power = 1 << 31;
    let mut bit = 0;
    while bit < 33 {
        // Divided by x: what has an x^0 takes the polynomial first, whose highest bit moves in at the other end.
        power = if power >> 31 == 1 { ((power ^ POLYNOMIAL) << 1) | 1 } else { power << 1 };
        bit += 1;
    }
    let slices = slices();
    let mut powers = [power; POWERS];
    let mut at = 1;
    while at < POWERS {
        let before = powers[at - 1];
        powers[at] = (before >> 8) ^ slices[0][(before & 0xFF) as usize];
        at += 1;
    }
    powers
}

#[inline]
fn power(bytes: usize) -> u32 {
    match POWER.get(bytes) {
        Some(&power) => power,
        None => far_power(bytes),
    }
}

#[cold]
fn far_power(bytes: usize) -> u32 {
    (POWERS..=bytes).fold(POWER[POWERS - 1], |power, _| byte(power, 0))
}

#[inline]
fn byte(crc: u32, byte: u8) -> u32 {
    (crc >> 8) ^ SLICES[0][usize::from(crc as u8 ^ byte)]
}

/// Eight bytes behind a CRC; zeros before a text of CRC 0 change nothing, so a text may be filled up at its front.
#[inline]
pub(super) fn word(crc: u32, word: u64) -> u32 {
    let bytes = (word ^ u64::from(crc)).to_le_bytes();
    bytes.iter().zip(SLICES.iter().rev()).fold(0, |crc, (&byte, slice)| crc ^ slice[usize::from(byte)])
}

/// The part that a text is.
pub(super) fn part(text: &[u8]) -> Part {
    let mut words = text.chunks_exact(8);
    let crc = words.by_ref().fold(0, |crc, chunk| match chunk.try_into() {
        Ok(bytes) => word(crc, u64::from_le_bytes(bytes)),
        Err(_) => crc,
    });
    Part { crc: words.remainder().iter().fold(crc, |crc, &next| byte(crc, next)), length: text.len() as u32 }
}

/// A text that grows at its front.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    product: u64,
    length: usize,
}

impl Sum {
    /// Puts parts, in their order, before what is there.
    #[inline]
    pub fn put_before(&mut self, parts: &[Part]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("pclmulqdq") {
            // SAFETY: the instruction was found on this processor.
            return unsafe { self.put_before_fast(parts) };
        }
        self.put_before_plain(parts);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "pclmulqdq")]
    fn put_before_fast(&mut self, parts: &[Part]) {
        use std::arch::x86_64::{_mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_cvtsi64_si128, _mm_xor_si128};
        let mut product = _mm_cvtsi64_si128(0);
        for part in parts.iter().rev() {
            let (crc, power) = (i64::from(part.crc), i64::from(power(self.length)));
            let one = _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc), _mm_cvtsi64_si128(power));
            product = _mm_xor_si128(product, one);
            self.length += part.length as usize;
        }
        self.product ^= _mm_cvtsi128_si64(product) as u64;
    }

    fn put_before_plain(&mut self, parts: &[Part]) {
        for part in parts.iter().rev() {
            self.product ^= carryless(part.crc, power(self.length));
            self.length += part.length as usize;
        }
    }

    pub fn length(&self) -> usize {
        self.length
    }

    /// The CRC32 of the text.
    #[inline]
    pub fn crc32(mut self) -> u32 {
        // The start value stands like a part before the text that has no length.
        self.put_before(&[Part { crc: u32::MAX, length: 0 }]);
        !word(0, self.product)
    }

    /// The CRC32 of the text without its first byte.
    pub fn crc32_after(mut self, first: u8) -> u32 {
        self.length -= 1;
        // What is added twice is gone.
        self.put_before(&[Part { crc: byte(0, first), length: 0 }]);
        self.crc32()
    }
}

/// The product of two polynomials over two elements, by multiplications that leave room for the carries (as in BearSSL).
fn carryless(a: u32, b: u32) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let comb = |number: u32| [0, 1, 2, 3].map(|shift| u64::from(number) & (EVERY_FOURTH << shift));
    let (a, b) = (comb(a), comb(b));
    (0..4usize).fold(0, |product, residue| {
        let sum = (0..4usize).fold(0u64, |sum, at| sum ^ a[at].wrapping_mul(b[(residue + 4 - at) % 4]));
        product | (sum & (EVERY_FOURTH << residue))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crc32(text: &[u8]) -> u32 {
        let mut sum = Sum::default();
        sum.put_before(&[part(text)]);
        sum.crc32()
    }

    #[test]
    fn the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn far_powers_follow_the_table() {
        assert_eq!(far_power(POWERS), byte(POWER[POWERS - 1], 0));
        assert_eq!(crc32(&vec![b'7'; 5000]), crc32fast::hash(&vec![b'7'; 5000]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn parts_sum_up_to_the_text(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..50)) {
            let whole = parts.concat();
            let own: Vec<Part> = parts.iter().map(|text| part(text)).collect();
            let mut sum = Sum::default();
            sum.put_before(&own);
            prop_assert_eq!((sum.crc32(), sum.length()), (crc32fast::hash(&whole), whole.len()));
            let mut plain = Sum::default();
            plain.put_before_plain(&own);
            prop_assert_eq!(plain.product, sum.product);
            if let Some((&first, rest)) = whole.split_first() {
                prop_assert_eq!(sum.crc32_after(first), crc32fast::hash(rest));
            }
        }

        #[test]
        fn zeros_before_a_text_change_nothing(text in prop::collection::vec(any::<u8>(), 0..8)) {
            let mut bytes = [0; 8];
            bytes[8 - text.len()..].copy_from_slice(&text);
            prop_assert_eq!(word(0, u64::from_le_bytes(bytes)), part(&text).crc);
        }
    }
}
