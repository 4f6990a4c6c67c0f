//! What a component's code would cost to compile, told from its shape before any of it is compiled: a compiler can't be
//! stopped, so what it is given has limits.

use wasmparser::{BinaryReaderError, BlockType, FunctionBody, Operator, Parser, Payload};

use crate::failure::LoadError;
use crate::limits::{FUNCTION_BYTES_MAX, FUNCTION_LOCALS_MAX, FUNCTION_VALUES_MAX, FUNCTIONS_MAX, LOCALS_MAX};

/// Parameters and results of one function type.
#[derive(Clone, Copy, Debug, Default)]
struct Arity {
    values: u64,
}

/// One core module on the way.
#[derive(Debug, Default)]
struct Module {
    types: Vec<Arity>,
    /// Types of the functions, imported ones first.
    functions: Vec<u32>,
}

/// Counts over the whole component.
#[derive(Debug, Default)]
struct Total {
    functions: usize,
    locals: u64,
}

/// Checks every function of every module in a component.
///
/// # Errors
/// [`LoadError::TooComplex`] for the first that is over a limit; [`LoadError::Invalid`] for what is no code.
pub(crate) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    let mut total = Total::default();
    // Modules nest in components, not in each other.
    let mut module = Module::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::Version { .. } => module = Module::default(),
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    let ty = ty.map_err(|error| invalid(&error))?;
                    module.types.push(Arity { values: (ty.params().len() + ty.results().len()) as u64 });
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let wasmparser::TypeRef::Func(ty) = import.map_err(|error| invalid(&error))?.ty {
                        module.functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    module.functions.push(ty.map_err(|error| invalid(&error))?);
                }
            }
            Payload::CodeSectionEntry(body) => total.add(&module, &body)?,
            _ => {}
        }
    }
    Ok(())
}

impl Total {
    fn add(&mut self, module: &Module, body: &FunctionBody<'_>) -> Result<(), LoadError> {
        self.functions += 1;
        if self.functions > FUNCTIONS_MAX {
            return Err(too_complex(format!("it has more than the {FUNCTIONS_MAX} functions that are allowed")));
        }
        let bytes = body.range().len();
        if bytes > FUNCTION_BYTES_MAX {
            return Err(too_complex(format!(
                "it has a function of {bytes} bytes, more than the {FUNCTION_BYTES_MAX} that are allowed: split it"
            )));
        }
        let mut locals = 0_u64;
        for group in body.get_locals_reader().map_err(|error| invalid(&error))? {
            locals += u64::from(group.map_err(|error| invalid(&error))?.0);
        }
        self.locals += locals;
        if locals > u64::from(FUNCTION_LOCALS_MAX) || self.locals > LOCALS_MAX {
            return Err(too_complex(format!(
                "it has {locals} locals in a function and {} so far, more than the {FUNCTION_LOCALS_MAX} and \
                 {LOCALS_MAX} that are allowed",
                self.locals
            )));
        }
        let values = module.values(body).map_err(|error| invalid(&error))?;
        if values > FUNCTION_VALUES_MAX {
            return Err(too_complex(format!(
                "a function passes {values} values between its blocks, more than the {FUNCTION_VALUES_MAX} that are allowed"
            )));
        }
        Ok(())
    }
}

impl Module {
    /// The most values that the function's blocks, calls and branches pass on, as a branch may pass what the widest
    /// of its blocks takes.
    fn values(&self, body: &FunctionBody<'_>) -> Result<u64, BinaryReaderError> {
        let (mut passed, mut branches, mut widest) = (0, 0, 0);
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                    let values = match blockty {
                        BlockType::FuncType(ty) => self.arity(ty),
                        BlockType::Type(_) => 1,
                        BlockType::Empty => 0,
                    };
                    passed += values;
                    widest = widest.max(values);
                }
                Operator::Call { function_index } => {
                    passed += self.functions.get(function_index as usize).map_or(0, |ty| self.arity(*ty));
                }
                Operator::CallIndirect { type_index, .. } => passed += self.arity(type_index),
                Operator::Br { .. } | Operator::BrIf { .. } | Operator::Return => branches += 1,
                Operator::BrTable { targets } => branches += u64::from(targets.len()),
                _ => {}
            }
        }
        // What validation finds wrong is refused there.
        Ok(passed + branches * widest)
    }

    fn arity(&self, ty: u32) -> u64 {
        self.types.get(ty as usize).map_or(0, |arity| arity.values)
    }
}

fn too_complex(message: String) -> LoadError {
    LoadError::TooComplex { message }
}

fn invalid(error: &BinaryReaderError) -> LoadError {
    LoadError::Invalid { message: error.to_string() }
}
