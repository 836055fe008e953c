//! The tree of a module: functions, their statements and operands.

/// The file that holds registers of a width. 8 and 16 bits live in words, with zeros above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `.pred`
    Predicate,
    /// `.b8`, `.b16` and `.b32`
    Word,
    /// `.b64`
    Double,
    /// `.b128`
    Quad,
}

/// A virtual register. Registers are containers of bits; the type of an instruction gives them meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    /// Which file.
    pub class: Class,
    /// Place in the file. Functions have places of their own; kernels, which do not call each other, share theirs.
    pub index: u32,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Not given: a generic address.
    Generic,
    /// `.param` of the kernel, or of a function and of its calls.
    Param,
    /// `.shared` and `.shared::cta`
    Shared,
    /// `.shared::cluster`
    SharedCluster,
    /// `.global`
    Global,
    /// `.const`
    Const,
    /// `.local`
    Local,
}

/// A named piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// As in the text.
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// In bytes.
    pub align: u32,
    /// In bytes; 0 for an `.extern` array without a size (dynamic shared memory).
    pub size: u64,
    /// `.extern`
    pub is_extern: bool,
    /// First bytes; the rest is zero.
    pub initial: Vec<u8>,
    /// Places in `initial` to which the address of another variable or function is to be added (8 bytes): offset and
    /// name.
    pub relocations: Vec<(u64, String)>,
}

/// An integer or floating-point literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// Two's complement.
    Integer(u64),
    /// `0fXXXXXXXX`, by bits.
    Single(u32),
    /// `0dXXXXXXXXXXXXXXXX` and decimal fractions, by bits.
    Double(u64),
}

/// `%tid.x` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Clusterid(u8),
    Nclusterid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    IsExplicitCluster,
    Laneid,
    Warpid,
    Nwarpid,
    Smid,
    Nsmid,
    Gridid,
    Envreg(u8),
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    Clock,
    Clock64,
    Globaltimer,
    DynamicSmemSize,
    TotalSmemSize,
    AggrSmemSize,
}

/// What an address starts from.
#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    /// `[%rd1+8]`
    Register(Register),
    /// `[name+8]`: index into the variables in scope (see [`Symbol`]).
    Symbol(Symbol),
    /// `[0x400]`
    Absolute,
}

/// A variable or function by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// [`Module::variables`]
    Global(usize),
    /// [`Function::parameters`] of the function that the statement is in.
    Parameter(usize),
    /// [`Function::results`] of the function that the statement is in.
    Result(usize),
    /// [`Function::locals`] of the function that the statement is in.
    Local(usize),
    /// [`Module::functions`]
    Function(usize),
}

/// An operand of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `%r1`
    Register(Register),
    /// `!%p1`
    Not(Register),
    /// `%p1|%p2`, `%r1|%p1`; either may be the sink `_`.
    Pair(Option<Register>, Option<Register>),
    /// `{%r1, 5, _}`
    Vector(Vec<Operand>),
    /// A number.
    Literal(Literal),
    /// `_`
    Sink,
    /// `[base+offset]`
    Address(Base, i64),
    /// `[%rd1, {%r1, %r2}]`: a tensor map and coordinates.
    TensorAddress(Base, i64, Vec<Operand>),
    /// The address of a variable or function, plus an offset.
    Symbol(Symbol, i64),
    /// `%tid.x`
    Special(Special),
    /// A special register that is not known here, by name.
    Unknown(Box<str>),
    /// Index of the statement that the label stands before; may be one past the last.
    Label(usize),
    /// Targets of `brx.idx`, declared by `.branchtargets`.
    Targets(Vec<usize>),
    /// `(%r1, param0)`: the operand lists of `call`.
    List(Vec<Operand>),
}

/// `@%p1` or `@!%p1`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The predicate.
    pub register: Register,
    /// Execute where it is false.
    pub negated: bool,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Line of the text, from 1.
    pub line: u32,
    /// From `.loc`: index into [`Module::files`] and line.
    pub source: Option<(u32, u32)>,
    /// Which lanes execute it.
    pub guard: Option<Guard>,
    /// First word of the opcode: `mov`, `tcgen05`.
    pub family: String,
    /// The other words in their order, without dots: `["shared::cta", "b32"]`.
    pub suffixes: Vec<String>,
    /// As written.
    pub operands: Vec<Operand>,
}

impl Statement {
    /// Whether the opcode has the word.
    pub fn has(&self, suffix: &str) -> bool {
        self.suffixes.iter().any(|word| word == suffix)
    }

    /// The opcode as written.
    pub fn opcode(&self) -> String {
        let mut opcode = self.family.clone();
        for suffix in &self.suffixes {
            opcode.push('.');
            opcode.push_str(suffix);
        }
        opcode
    }
}

/// `.entry` or `.func`
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// As in the text.
    pub name: String,
    /// Whether the host can launch it.
    pub is_entry: bool,
    /// In order.
    pub parameters: Vec<Variable>,
    /// In order; none for kernels.
    pub results: Vec<Variable>,
    /// Variables of all blocks of the body: `.shared`, `.local`, `.param` of calls. Names may repeat.
    pub locals: Vec<Variable>,
    /// Empty for a declaration.
    pub body: Vec<Statement>,
    /// Whether there is a body.
    pub is_defined: bool,
    /// `.maxntid` or `.reqntid`: most threads of a block.
    pub max_threads: Option<u32>,
    /// `.reqnctapercluster` or `.explicitcluster` with it.
    pub required_cluster: Option<[u32; 3]>,
}

/// A translation unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// `.version`
    pub version: (u32, u32),
    /// `.target`: `sm_100a`
    pub target: String,
    /// Variables outside of functions.
    pub variables: Vec<Variable>,
    /// Kernels, functions and declarations.
    pub functions: Vec<Function>,
    /// From `.file`, by number.
    pub files: Vec<(u32, String)>,
    /// How many registers there are of each class: predicates, words, doubles, quads.
    pub registers: [u32; 4],
}
