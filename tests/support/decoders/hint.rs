//! The file that names the latest checkpoint for other tools.

use drystone::jobs::Hint;

/// What is read is written, and is then read as the same; the path is the first line.
pub fn read(input: &[u8]) -> bool {
    let Some(hint) = Hint::from_bytes(input) else { return false };
    let bytes = hint.to_bytes();
    assert_eq!(Hint::from_bytes(&bytes).as_ref(), Some(&hint));
    let text = std::str::from_utf8(&bytes).expect("text");
    assert_eq!(text.lines().next().map(str::to_owned), Some(hint.path.to_string()));
    assert_eq!(text.lines().count(), 2, "{text:?}");
    true
}
