//! A fraction as text: the shortest decimal digits that are exactly it, laid out as RFC 8785 lays out numbers of JSON
//! (which is ECMAScript's way), but for whole numbers below 10^21, which keep all their digits. So `16.0` and `16` are
//! one key, the same one as from plugins in other languages and from expressions of pipelines.

use std::fmt::Write as _;

/// Below this, a whole number is written with all its digits.
const WHOLE_MAX: f64 = 1e21;
/// Beyond these powers of ten the text has an exponent.
const POINT_MAX: i32 = 21;
const POINT_MIN: i32 = -6;

/// Appends the text. What is no number is `NaN`, `Infinity` or `-Infinity`.
pub(crate) fn append(bytes: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        let text = if number.is_nan() { "NaN" } else { "Infinity" };
        bytes.extend_from_slice(if number < 0.0 { b"-" } else { b"" });
        return bytes.extend_from_slice(text.as_bytes());
    }
    if number.fract() == 0.0 && number.abs() < WHOLE_MAX {
        // A zero has no sign then.
        return bytes.extend_from_slice((number as i128).to_string().as_bytes());
    }
    if number < 0.0 {
        bytes.push(b'-');
    }
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').expect("this format has an exponent");
    let digits = mantissa.replace('.', "");
    // The decimal point stands behind so many of the digits.
    let point = exponent.parse::<i32>().expect("an exponent is a number") + 1;
    let text = layout(&digits, point);
    bytes.extend_from_slice(text.as_bytes());
}

fn layout(digits: &str, point: i32) -> String {
    let mut text = String::with_capacity(digits.len() + 8);
    if (1..=POINT_MAX).contains(&point) {
        let whole = digits.len().min(point as usize);
        text.push_str(&digits[..whole]);
        text.extend(std::iter::repeat_n('0', point as usize - whole));
        if whole < digits.len() {
            text.push('.');
            text.push_str(&digits[whole..]);
        }
    } else if (POINT_MIN + 1..=0).contains(&point) {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        text.push_str(digits);
    } else {
        text.push_str(&digits[..1]);
        if digits.len() > 1 {
            text.push('.');
            text.push_str(&digits[1..]);
        }
        write!(text, "e{:+}", point - 1).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_laid_out_as_rfc_8785_says() {
        let check = |number: f64, expected: &str| {
            let mut bytes = Vec::new();
            append(&mut bytes, number);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        };
        // Of its appendix B.
        check(f64::from_bits(0x8000_0000_0000_0000), "0");
        check(f64::from_bits(1), "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(f64::from_bits(0x4340_0000_0000_0001), "9007199254740994");
        check(f64::from_bits(0x4415_af1d_78b5_8c40), "100000000000000000000");
        check(f64::from_bits(0x444b_1ae4_d6e2_ef50), "1e+21");
        check(f64::from_bits(0x3eb0_c6f7_a0b5_ed8d), "0.000001");
        check(f64::from_bits(0x3eb0_c6f7_a0b5_ed8c), "9.999999999999997e-7");
        check(f64::from_bits(0x41b3_de43_5555_5553), "333333333.3333332");
        check(f64::from_bits(0xbecb_f647_612f_3696), "-0.0000033333333333333333");
        check(16.0, "16");
        // Which ECMAScript would round.
        check(f64::from_bits(0x4430_0000_0000_0000), "295147905179352825856");
        check(f64::from_bits(0x444b_1ae4_d6e2_ef4e), "999999999999999737856");
        check(-0.1, "-0.1");
        check(1.5e-7, "1.5e-7");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
    }
}
