//! Records on their way to stdout: as values, by a format string, or as JSON.

use millstream_protocol::Row;

use crate::framing::Framing;
use crate::json_line;
use crate::problem::Problem;

/// Where a record lies.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
}

/// How a record is written, parsed once.
#[derive(Clone, Debug)]
pub(crate) enum Style {
    Format(Layout),
    Json,
}

/// A format string, and what goes around it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pieces: Vec<Piece>,
    pub(crate) framing: Framing,
    /// Stands for a key or a value that is absent.
    pub(crate) null: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
    Time,
}

impl Style {
    /// Parses `'%t/%p@%o %k %v\n'`.
    ///
    /// # Errors
    /// An unknown letter after `%`.
    pub(crate) fn parse(format: &str) -> Result<Style, Problem> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            let piece = match (c, if matches!(c, '%' | '\\') { chars.next() } else { None }) {
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Partition,
                ('%', Some('o')) => Piece::Offset,
                ('%', Some('k')) => Piece::Key,
                ('%', Some('v')) => Piece::Value,
                ('%', Some('h')) => Piece::Headers,
                ('%', Some('T')) => Piece::Timestamp,
                ('%', Some('d')) => Piece::Time,
                ('%', Some('%')) => Piece::Text("%".to_owned()),
                ('\\', Some('n')) => Piece::Text("\n".to_owned()),
                ('\\', Some('t')) => Piece::Text("\t".to_owned()),
                ('\\', Some('0')) => Piece::Text("\0".to_owned()),
                ('\\', Some('\\')) => Piece::Text("\\".to_owned()),
                ('%' | '\\', next) => {
                    let found: String = std::iter::once(c).chain(next).collect();
                    return Err(Problem::usage(format!("--format: `{found}` is unknown")).help(
                        "%t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp (ms), %d time, %% a `%`; \\n \\t \\0 \\\\",
                    ));
                }
                (other, _) => Piece::Text(other.to_string()),
            };
            match piece {
                Piece::Text(text) => plain.push_str(&text),
                piece => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(piece);
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Style::Format(Layout { pieces, framing: Framing::default(), null: Vec::new() }))
    }

    /// Appends a record and its end to `out`.
    pub(crate) fn write(&self, place: Place<'_>, row: &Row<'_>, out: &mut Vec<u8>) {
        match self {
            Style::Json => {
                json_line::encode(place, row, out);
                out.push(b'\n');
            }
            Style::Format(layout) => layout.framing.write(out, |out| layout.write(place, row, out)),
        }
    }
}

impl Layout {
    /// `None`: it is the value alone, and there is none.
    fn write(&self, place: Place<'_>, row: &Row<'_>, out: &mut Vec<u8>) -> Option<()> {
        for piece in &self.pieces {
            write_piece(piece, place, (row, &self.null), out);
        }
        (row.value.is_some() || self.pieces != [Piece::Value]).then_some(())
    }
}

fn write_piece(piece: &Piece, place: Place<'_>, (row, null): (&Row<'_>, &[u8]), out: &mut Vec<u8>) {
    match piece {
        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
        Piece::Topic => out.extend_from_slice(place.topic.as_bytes()),
        Piece::Partition => out.extend_from_slice(place.partition.to_string().as_bytes()),
        Piece::Offset => out.extend_from_slice(row.offset.to_string().as_bytes()),
        // Bytes as they are: what goes to a pipe is not ours to change.
        Piece::Key => out.extend_from_slice(row.key.unwrap_or(null)),
        Piece::Value => out.extend_from_slice(row.value.unwrap_or(null)),
        Piece::Headers => {
            for (i, (name, value)) in row.headers.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b"," } else { b"" });
                out.extend_from_slice(name);
                out.push(b'=');
                out.extend_from_slice(value.unwrap_or_default());
            }
        }
        Piece::Timestamp => out.extend_from_slice(row.timestamp.to_string().as_bytes()),
        Piece::Time => out.extend_from_slice(crate::format::timestamp(row.timestamp).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::Columns;

    use super::*;

    fn check(style: &Style, expected: &str) {
        let mut columns = Columns::default();
        columns.push(17, 1_431_864_000_250, Some(b"k"), Some(b"v%"));
        columns.push_header(b"a", Some(b"1"));
        columns.push_header(b"b", None);
        let mut out = Vec::new();
        let row = columns.rows().next().unwrap();
        style.write(Place { topic: "orders", partition: 2 }, &row, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn formats() {
        check(&Style::parse("%t/%p@%o %k %v").unwrap(), "orders/2@17 k v%\n");
        check(&Style::parse(r"%T %d\t%h%%").unwrap(), "1431864000250 2015-05-17T12:00:00.250Z\ta=1,b=%\n");
        assert!(Style::parse("%x").unwrap_err().to_string().contains("`%x`"));
        assert!(Style::parse("50%").unwrap_err().to_string().contains("`%`"));
    }

    #[test]
    fn json() {
        check(
            &Style::Json,
            "{\"topic\":\"orders\",\"partition\":2,\"offset\":17,\"timestamp\":1431864000250,\"key\":\"k\",\"value\":\"v%\",\
             \"headers\":[{\"name\":\"a\",\"value\":\"1\"},{\"name\":\"b\",\"value\":null}]}\n",
        );
    }
}
