//! `pipeline eval`: an expression over the records of standard input, by the code that pipelines run, without a broker.

use std::io::{BufReader, Read, Write};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use millstream_pipeline::expr::{Expression, Origin};
use millstream_protocol::Columns;
use serde_json::json;

use crate::args::Context;
use crate::console::Console;
use crate::format::plural;
use crate::framing::Framing;
use crate::json_line;
use crate::problem::{Exit, Shown};
use crate::table::Format;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "One result per record: a text as it is, everything else as JSON, null for nothing. A record on which the expression
fails has an error with its number in place of a result; the exit code is then 4.

Examples:
  millstream pipeline eval 'value.status >= 400' < access.jsonl
  millstream pipeline eval --as key \"sha256(value.user)\" < orders.jsonl
  millstream consume orders --output json | millstream pipeline eval --json \"format_time(time, '%H:%M', 'Europe/Vienna')\"
  millstream pipeline eval 'lists.range(3)' < /dev/null"
)]
pub(crate) struct Args {
    /// The expression; all functions are listed when it names one that does not exist
    #[arg(value_name = "EXPR")]
    expression: String,
    /// Lines are records as `consume --output json` prints them: key, headers and time count
    #[arg(long)]
    json: bool,
    /// What the result is for: `filter` has to be true or false, `key` a text or number
    #[arg(long = "as", value_name = "USE", default_value = "value")]
    result: Use,
    /// What ends a record of the input
    #[arg(long, value_name = "TEXT", default_value = "\\n")]
    delimiter: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Use {
    Filter,
    Key,
    Value,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let expression = match Expression::parse(&args.expression, "expression") {
        Ok(expression) => expression,
        Err(found) => {
            super::show(&context.console, &found);
            return Err(Shown(Exit::Refused).into());
        }
    };
    let eval = Eval { args, expression, console: &context.console, format: context.format };
    let (records, failed) = eval.all(&mut BufReader::new(std::io::stdin().lock()), &mut std::io::stdout().lock())?;
    if failed > 0 {
        context.console.error(&format!("{failed} of {} failed", plural(records, "record")));
        return Err(Shown(Exit::Refused).into());
    }
    Ok(())
}

struct Eval<'a> {
    args: &'a Args,
    expression: Expression,
    console: &'a Console,
    format: Format,
}

impl Eval<'_> {
    /// How many records there were, and on how many the expression failed. Without any, the expression is evaluated
    /// once over a record that has nothing: not every expression looks at one.
    fn all(&self, input: &mut BufReader<impl Read>, output: &mut impl Write) -> Result<(u64, u64)> {
        let (mut records, mut failed) = (0, 0);
        loop {
            let frames = self.args.delimiter.read_chunk(input).context("reading records")?;
            let mut lines = Vec::new();
            for frame in &frames {
                records += 1;
                if let Err(why) = self.one(frame.as_deref(), &mut lines) {
                    failed += 1;
                    self.console.error(&format!("record {records}: {why}"));
                    if self.format == Format::Json {
                        push(&mut lines, &json!({ "error": why }));
                    }
                }
            }
            output.write_all(&lines).and_then(|()| output.flush())?;
            if frames.is_empty() {
                break;
            }
        }
        if records == 0 {
            let mut lines = Vec::new();
            match self.one(None, &mut lines) {
                Ok(()) => output.write_all(&lines)?,
                Err(why) => {
                    self.console.error(&format!("without a record: {why}"));
                    return Ok((1, 1));
                }
            }
        }
        Ok((records, failed))
    }

    fn one(&self, frame: Option<&[u8]>, lines: &mut Vec<u8>) -> Result<(), String> {
        let mut columns = Columns::default();
        let (topic, partition) = match frame {
            Some(line) if self.args.json => {
                json_line::decode_into(line, &mut columns).map_err(|why| why.to_string())?
            }
            value => {
                columns.push(0, 0, None, value);
                (String::new(), 0)
            }
        };
        let row = columns.rows().next().expect("a record was pushed");
        let origin = Origin { topic: &topic, partition };
        let mut out = Vec::new();
        let is_some = match self.args.result {
            Use::Filter => {
                let truth = self.expression.test(&row, origin)?;
                out.extend_from_slice(if truth { b"true" } else { b"false" });
                true
            }
            Use::Key => self.expression.key(&row, origin, &mut out)?,
            Use::Value => self.expression.value(&row, origin, &mut out)?,
        };
        if self.format == Format::Json {
            push(lines, &result(self.args.result, is_some.then_some(out)));
            return Ok(());
        }
        lines.extend_from_slice(if is_some { &out } else { b"null" });
        lines.push(b'\n');
        Ok(())
    }
}

/// Text as a string, bytes as base64, as records are printed.
fn result(of: Use, bytes: Option<Vec<u8>>) -> serde_json::Value {
    use base64::Engine as _;
    match bytes.map(String::from_utf8) {
        None => json!({ "result": null }),
        Some(Ok(text)) if of == Use::Filter => json!({ "result": text == "true" }),
        Some(Ok(text)) => json!({ "result": text }),
        Some(Err(bytes)) => {
            json!({ "result_base64": base64::engine::general_purpose::STANDARD.encode(bytes.into_bytes()) })
        }
    }
}

fn push(lines: &mut Vec<u8>, value: &serde_json::Value) {
    serde_json::to_writer(&mut *lines, value).expect("writing to memory can't fail");
    lines.push(b'\n');
}
