//! Frames of tests/golden/<venue>/frames.txt say what the file says, on the strict and on the tolerant way.

mod support;

use support::{root, told, VENUES};
use tickplant_core::venues::{decoder, tolerant_decoder};

#[test]
fn golden_frames_say_what_they_said() {
    for venue in VENUES {
        let path = root().join("tests/golden").join(venue).join("frames.txt");
        let expected = std::fs::read_to_string(&path).unwrap();
        for mut way in [decoder(venue).unwrap(), tolerant_decoder(venue).unwrap()] {
            let mut actual = String::new();
            for line in expected.lines().filter(|line| !line.starts_with("= ")) {
                actual.push_str(line);
                actual.push('\n');
                if !line.is_empty() && !line.starts_with('#') {
                    let (frame, reply) = line.strip_prefix("reply ").map_or((line, false), |body| (body, true));
                    for event in told(way.as_mut(), frame.as_bytes(), reply) {
                        actual.push_str(&format!("= {event}\n"));
                    }
                }
            }
            if actual != expected {
                let kept = format!("{}/{venue}.frames.txt", env!("CARGO_TARGET_TMPDIR"));
                std::fs::write(&kept, &actual).unwrap();
                panic!("{} differs from what the decoder says now: {kept}", path.display());
            }
        }
    }
}

/// What Kraken v1 sends all day is what its strict scanner knows: books of one and two maps, trades, tickers.
#[test]
fn the_strict_scanner_knows_kraken_v1s_data() {
    let text = std::fs::read_to_string(root().join("tests/golden/kraken_v1/frames.txt")).unwrap();
    let mut way = decoder("kraken_v1").unwrap();
    let (mut known, mut out) = (0, tickplant_core::event::Decoded::default());
    for line in text.lines().filter(|line| line.starts_with('[')) {
        let before = out.slow_path;
        known += usize::from(way.decode(line.as_bytes(), &mut out).is_ok() && out.slow_path == before);
    }
    assert_eq!(known, 8);
}
