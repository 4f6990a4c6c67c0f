//! Where reading starts, as users write it: `earliest`, `latest`, an offset, a time.

use std::str::FromStr;

use millstream_pipeline::units;
use millstream_protocol::message::Position;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    At(Position),
    Offset(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => return Ok(Start::At(Position::Earliest)),
            "latest" => return Ok(Start::At(Position::Latest)),
            _ => {}
        }
        if let Ok(offset) = text.parse::<i64>()
            && offset >= 0
        {
            return Ok(Start::Offset(offset));
        }
        if let Some(ms) = text.strip_prefix('@').and_then(|ms| ms.parse().ok()) {
            return Ok(Start::At(Position::Timestamp(ms)));
        }
        if let Some(ms) = units::timestamp_ms(text) {
            return Ok(Start::At(Position::Timestamp(ms)));
        }
        if let Some(ms) = text.strip_prefix('-').and_then(|ago| units::duration_ms(ago).ok()) {
            return Ok(Start::At(Position::Timestamp(crate::format::now_ms() - ms as i64)));
        }
        Err("write `earliest`, `latest`, an offset, a time (`2015-05-17T12:00Z`), `@` and milliseconds, or `-15m`"
            .to_owned())
    }
}

impl From<Start> for millstream_client::Start {
    fn from(start: Start) -> Self {
        match start {
            Start::Offset(offset) => millstream_client::Start::Offset(offset),
            Start::At(Position::Earliest) => millstream_client::Start::Earliest,
            Start::At(Position::Latest) => millstream_client::Start::Latest,
            Start::At(Position::Timestamp(ms)) => millstream_client::Start::Timestamp(ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let check = |text: &str, expected: Option<Start>| assert_eq!(text.parse::<Start>().ok(), expected, "{text}");
        check("earliest", Some(Start::At(Position::Earliest)));
        check("latest", Some(Start::At(Position::Latest)));
        check("17", Some(Start::Offset(17)));
        check("@17", Some(Start::At(Position::Timestamp(17))));
        check("2015-05-17T12:00Z", Some(Start::At(Position::Timestamp(1_431_864_000_000))));
        check("-1", None);
        check("first", None);
        assert!(matches!("-15m".parse(), Ok(Start::At(Position::Timestamp(_)))));
    }
}
