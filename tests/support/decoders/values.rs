//! The values of options.

use drystone::config::{CATALOGUE, FlinkDuration, MemorySize, Value};

use super::is_invalid;

/// The first byte says whose value it is, the others are its text. What is read has a text that is read as the same.
pub fn read(input: &[u8]) -> bool {
    let Some((&which, text)) = input.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match text.parse::<MemorySize>() {
        Ok(size) => assert_eq!(size.to_string().parse::<MemorySize>().ok(), Some(size)),
        Err(error) => is_invalid(&error),
    }
    match text.parse::<FlinkDuration>() {
        Ok(length) => assert_eq!(length.to_string().parse::<FlinkDuration>().ok(), Some(length)),
        Err(error) => is_invalid(&error),
    }
    let option = &CATALOGUE[usize::from(which) % CATALOGUE.len()];
    match option.kind.parse(text) {
        Ok(value) => {
            assert_eq!(option.kind.check(&value), Ok(()), "{}={text}", option.key);
            let again = option.kind.parse(&value.to_string());
            let is_nan = matches!(value, Value::Float(number) if number.is_nan());
            assert!(is_nan || again == Ok(value), "{}={text}: {again:?}", option.key);
            true
        }
        Err(problem) => {
            assert!(problem.contains("allowed"), "{}={text}: {problem}", option.key);
            false
        }
    }
}
