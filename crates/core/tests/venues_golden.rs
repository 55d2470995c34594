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
