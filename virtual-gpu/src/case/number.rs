//! Numbers of a case file as the little-endian bytes of a dtype.

use serde_json::Number;

use super::Dtype;

/// Appends `value` as a `dtype`; the error says why it does not fit.
pub(super) fn append(bytes: &mut Vec<u8>, dtype: Dtype, value: &Number) -> Result<(), String> {
    match dtype {
        Dtype::F32 => bytes.extend((real(value, dtype)? as f32).to_le_bytes()),
        Dtype::F64 => bytes.extend(real(value, dtype)?.to_le_bytes()),
        Dtype::Bf16 => append_integer(bytes, dtype, integer(value, dtype, (0, u16::MAX.into()))?),
        Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64 | Dtype::U16 | Dtype::U8 => {
            // Only the three real types have no range.
            let range = dtype.integer_range().unwrap_or((0, 0));
            append_integer(bytes, dtype, integer(value, dtype, range)?);
        }
    }
    Ok(())
}

/// Appends the low bytes of `value`: what does not fit is cut off, as a conversion in C does.
pub(super) fn append_integer(bytes: &mut Vec<u8>, dtype: Dtype, value: i128) {
    bytes.extend(&value.to_le_bytes()[..dtype.size()]);
}

fn real(value: &Number, dtype: Dtype) -> Result<f64, String> {
    let real = value.as_f64().filter(|v| v.is_finite());
    let real = real.ok_or_else(|| {
        format!(
            "{value} is not a finite number, which {} needs",
            dtype.name()
        )
    })?;
    if dtype == Dtype::F32 && (real as f32).is_infinite() {
        return Err(format!("{value} is beyond the largest f32"));
    }
    Ok(real)
}

fn integer(value: &Number, dtype: Dtype, (lowest, highest): (i128, i128)) -> Result<i128, String> {
    let integer = value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from));
    match integer {
        Some(v) if (lowest..=highest).contains(&v) => Ok(v),
        Some(_) => Err(format!(
            "{value} does not fit {}, which holds {lowest} to {highest}",
            dtype.name()
        )),
        None if dtype == Dtype::Bf16 => Err(format!(
            "{value} is not a 16-bit pattern (0 to 65535), which bf16 needs"
        )),
        None => Err(format!(
            "{value} is not an integer of 64 bits, which {} needs",
            dtype.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(dtype: Dtype, text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        append(&mut out, dtype, &serde_json::from_str(text).unwrap())?;
        Ok(out)
    }

    #[test]
    fn numbers_become_little_endian_bytes() {
        assert_eq!(bytes(Dtype::F32, "1.5").unwrap(), [0, 0, 0xc0, 0x3f]);
        assert_eq!(bytes(Dtype::F32, "1").unwrap(), [0, 0, 0x80, 0x3f]);
        assert_eq!(
            bytes(Dtype::F64, "-2").unwrap(),
            [0, 0, 0, 0, 0, 0, 0, 0xc0]
        );
        assert_eq!(bytes(Dtype::I32, "-2").unwrap(), [0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(
            bytes(Dtype::I64, "-9223372036854775808").unwrap(),
            [0, 0, 0, 0, 0, 0, 0, 0x80]
        );
        assert_eq!(
            bytes(Dtype::U64, "18446744073709551615").unwrap(),
            [0xff; 8]
        );
        assert_eq!(bytes(Dtype::U16, "513").unwrap(), [1, 2]);
        assert_eq!(bytes(Dtype::U8, "255").unwrap(), [255]);
        assert_eq!(bytes(Dtype::Bf16, "16256").unwrap(), [0x80, 0x3f]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (dtype, text) in [
            (Dtype::U8, "256"),
            (Dtype::U8, "-1"),
            (Dtype::I32, "2147483648"),
            (Dtype::I64, "9223372036854775808"),
            (Dtype::U32, "1.0"),
            (Dtype::Bf16, "65536"),
            (Dtype::Bf16, "0.5"),
            (Dtype::F32, "1e39"),
        ] {
            let error = bytes(dtype, text).unwrap_err();
            assert!(
                error.starts_with(
                    serde_json::from_str::<Number>(text)
                        .unwrap()
                        .to_string()
                        .as_str()
                ),
                "{error}"
            );
        }
    }
}
