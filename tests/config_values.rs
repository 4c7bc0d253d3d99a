//! Flink's syntax of sizes and durations.

#[path = "support/cases.rs"]
mod cases;

use std::time::Duration;

use cases::cases;
use drystone::config::{FlinkDuration, MemorySize};
use proptest::prelude::*;

#[test]
fn sizes_are_read() {
    let units: [(u64, &[&str]); 5] = [
        (1, &["", "b", "bytes", "B", "Bytes"]),
        (1 << 10, &["k", "kb", "kibibytes", "K", "KB", "KibiBytes"]),
        (1 << 20, &["m", "mb", "mebibytes", "MB"]),
        (1 << 30, &["g", "gb", "gibibytes", "Gb"]),
        (1 << 40, &["t", "tb", "tebibytes", "tB"]),
    ];
    for (multiplier, names) in units {
        for name in names {
            for text in [format!("7{name}"), format!("7 {name}"), format!(" \t7  {name} \n")] {
                assert_eq!(text.parse::<MemorySize>().unwrap(), MemorySize(7 * multiplier), "{text:?}");
            }
        }
    }
    for (text, bytes) in [("0", 0), ("0032mb", 32 << 20), ("9223372036854775807", i64::MAX as u64)] {
        assert_eq!(text.parse::<MemorySize>().unwrap(), MemorySize(bytes));
    }
}

#[test]
fn sizes_are_refused() {
    for (text, problem) in [
        ("", "doesn't start with a digit"),
        ("  ", "doesn't start with a digit"),
        ("mb", "doesn't start with a digit"),
        ("-1", "doesn't start with a digit"),
        ("+1", "doesn't start with a digit"),
        ("1.5 mb", "unknown unit"),
        ("1_000", "unknown unit"),
        ("0x10", "unknown unit"),
        ("1 KiB", "unknown unit"),
        ("1 GiB", "unknown unit"),
        ("1 pb", "unknown unit"),
        ("9223372036854775808", "is more than"),
        ("18446744073709551616", "is more than"),
        ("8388608 tb", "is more than"),
        ("18446744073709551615 tb", "is more than"),
    ] {
        let error = text.parse::<MemorySize>().unwrap_err().to_string();
        assert!(
            error.contains(problem) && error.contains(&format!("'{text}'")) && error.contains("allowed"),
            "{error}"
        );
    }
}

#[test]
fn sizes_are_written() {
    for (bytes, text) in [
        (0, "0 bytes"),
        (1000, "1000 bytes"),
        (1024, "1 kb"),
        (20 << 10, "20 kb"),
        (32 << 20, "32 mb"),
        (1536 << 20, "1536 mb"),
        (3 << 30, "3 gb"),
        (1 << 40, "1099511627776 bytes"),
        (3 << 39, "1536 gb"),
    ] {
        assert_eq!(MemorySize(bytes).to_string(), text);
    }
}

#[test]
fn durations_are_read() {
    let units: [(u64, &[&str]); 7] = [
        (86_400_000_000_000, &["d", "day", "days", "D"]),
        (3_600_000_000_000, &["h", "hour", "hours", "H"]),
        (60_000_000_000, &["min", "m", "minute", "minutes", "MIN"]),
        (1_000_000_000, &["s", "sec", "secs", "second", "seconds"]),
        (1_000_000, &["", "ms", "milli", "millis", "millisecond", "milliseconds", "Ms"]),
        (1_000, &["µs", "micro", "micros", "microsecond", "microseconds", "µS"]),
        (1, &["ns", "nano", "nanos", "nanosecond", "nanoseconds"]),
    ];
    for (nanos, names) in units {
        for name in names {
            for text in [format!("7{name}"), format!(" 7  {name} ")] {
                let read = text.parse::<FlinkDuration>().unwrap();
                assert_eq!(read, FlinkDuration(Duration::from_nanos(7 * nanos)), "{text:?}");
            }
        }
    }
    for (text, nanos) in [
        ("PT1H30M", 5_400_000_000_000_i64),
        ("pt5s", 5_000_000_000),
        ("P1D", 86_400_000_000_000),
        ("P1DT1M", 86_460_000_000_000),
        ("+PT1M-30S", 30_000_000_000),
        ("-PT-1S", 1_000_000_000),
        ("PT1.5S", 1_500_000_000),
        ("PT1.S", 1_000_000_000),
        ("PT0,000000001S", 1),
        ("PT0S", 0),
        ("00000000000000000000000000000000000000000000000000001 ns", 1),
    ] {
        let read = text.parse::<FlinkDuration>().unwrap();
        assert_eq!(read, FlinkDuration(Duration::from_nanos(nanos as u64)), "{text}");
    }
    assert_eq!("9223372036854775807 s".parse::<FlinkDuration>().unwrap().0.as_secs(), i64::MAX as u64);
}

#[test]
fn durations_are_refused() {
    for (text, problem) in [
        ("", "isn't ISO-8601"),
        ("s", "isn't ISO-8601"),
        ("-1 s", "isn't ISO-8601"),
        ("P", "isn't ISO-8601"),
        ("PT", "isn't ISO-8601"),
        ("P1DT", "isn't ISO-8601"),
        ("P1W", "isn't ISO-8601"),
        ("PT1M1H", "isn't ISO-8601"),
        ("PT.5S", "isn't ISO-8601"),
        ("PTS", "isn't ISO-8601"),
        ("PT1.0000000001S", "isn't ISO-8601"),
        ("PT5", "isn't ISO-8601"),
        ("-PT1S", "is negative"),
        ("PT-0.5S", "is negative"),
        ("1.5 s", "unknown unit"),
        ("1 week", "unknown unit"),
        ("1 w", "unknown unit"),
        ("9223372036854775808 s", "is more than"),
        ("106751991167301 d", "is more than"),
        ("99999999999999999999999999999999999999999999 ns", "is more than"),
        ("P106751991167301D", "is more than"),
        ("PT9223372036854775808S", "is more than"),
    ] {
        let error = text.parse::<FlinkDuration>().unwrap_err().to_string();
        assert!(
            error.contains(problem) && error.contains(&format!("'{text}'")) && error.contains("allowed"),
            "{error}"
        );
    }
}

#[test]
fn durations_are_written() {
    for (nanos, text) in [
        (0, "0 ms"),
        (1, "1 ns"),
        (1_500, "1500 ns"),
        (2_000, "2 µs"),
        (1_500_000_000, "1500 ms"),
        (90_000_000_000, "90 s"),
        (600_000_000_000, "10 min"),
        (7_200_000_000_000, "2 h"),
        (172_800_000_000_000, "2 d"),
    ] {
        assert_eq!(FlinkDuration(Duration::from_nanos(nanos)).to_string(), text);
    }
}

#[test]
fn values_travel_as_text() {
    assert_eq!(serde_json::to_string(&MemorySize(32 << 20)).unwrap(), "\"32 mb\"");
    assert_eq!(serde_json::from_str::<FlinkDuration>("\"5 s\"").unwrap(), FlinkDuration(Duration::from_secs(5)));
    assert!(serde_json::from_str::<MemorySize>("\"5 pb\"").unwrap_err().to_string().contains("allowed"));
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_size_survives_its_text(bytes in 0..=i64::MAX as u64, shift in 0..50_u32) {
        for size in [MemorySize(bytes), MemorySize(bytes >> shift << shift)] {
            prop_assert_eq!(size.to_string().parse::<MemorySize>().unwrap(), size);
        }
    }

    #[test]
    fn a_duration_survives_its_text(seconds in 0..=i64::MAX as u64, nanos in 0..1_000_000_000_u32, unit in 0..4_usize) {
        let nanos = nanos / [1, 1_000, 1_000_000, 1_000_000_000][unit] * [1, 1_000, 1_000_000, 1_000_000_000][unit];
        let duration = FlinkDuration(Duration::new(seconds, nanos));
        prop_assert_eq!(duration.to_string().parse::<FlinkDuration>().unwrap(), duration);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = text.parse::<MemorySize>();
        let _ = text.parse::<FlinkDuration>();
    }
}
