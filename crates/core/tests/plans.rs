//! The plans that the Python descriptions of the venues compile to are plans that a session can read.

use std::fs;
use std::path::Path;
use tickplant_core::session::types::Plan;

#[test]
fn every_venues_plan_is_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/plans");
    let mut seen = 0;
    for entry in fs::read_dir(folder).expect("tests/golden/plans") {
        let path = entry.expect("a readable folder").path();
        let text = fs::read_to_string(&path).expect("a readable plan");
        let plan: Plan = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let back = serde_json::to_value(&plan).expect("a plan is JSON");
        assert_eq!(back, serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "{seen} plans");
}
