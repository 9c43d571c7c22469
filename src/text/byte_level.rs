//! The byte-level alphabet: one printable character for each byte, as GPT-2's vocabulary spells them.

/// Whether a byte stands for itself (as the code point of the same number).
fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The byte that a character stands for.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    if let Ok(byte) = u8::try_from(code) {
        return is_printable(byte).then_some(byte);
    }
    // Bytes that are not printable follow from code point 256 on, in order.
    let rank = usize::try_from(code.checked_sub(256)?).ok()?;
    (0..=u8::MAX).filter(|&byte| !is_printable(byte)).nth(rank)
}

/// The bytes of a token of the byte-level alphabet; a token with any other character is its own text.
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_one_character() {
        let mut seen = vec![0; 256];
        for code in 0..1024 {
            if let Some(byte) = char::from_u32(code).and_then(byte_of) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert_eq!(seen, vec![1; 256]);
    }

    #[test]
    fn known_spellings() {
        assert_eq!(bytes_of("Ġthe"), b" the");
        assert_eq!(bytes_of("Ċ"), b"\n");
        assert_eq!(bytes_of("Ã©"), "é".as_bytes());
        assert_eq!(
            bytes_of("<｜end▁of▁sentence｜>"),
            "<｜end▁of▁sentence｜>".as_bytes()
        );
    }
}
