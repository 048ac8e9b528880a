//! Exported lines by themselves: what verifies is canonical, byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stella_domain::json::CanonicalJson;
use stella_verify::ndjson::verify_reader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = verify_reader(bytes) {
        let text = std::str::from_utf8(bytes).expect("what verifies is UTF-8");
        assert_eq!(report.events, text.lines().count() as u64);
        for line in text.lines() {
            let canonical = CanonicalJson::parse(line).expect("what verifies is JSON");
            assert_eq!(canonical.as_str(), line);
        }
    }
});
