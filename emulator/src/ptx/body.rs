//! The body of a function: blocks, declarations, statements.

use super::cursor::Cursor;
use super::declare;
use super::parse::Unit;
use super::scope::{Item, Reference, Scope, class};
use super::syntax::{Class, Guard, Operand, Register, Statement, Variable};
use super::token::{Kind, Token};
use crate::fault::Result;

/// Registers of a class in a function, at most. Real kernels have some thousands.
const REGISTERS: u32 = 1 << 20;
/// Blocks inside of each other, at most.
const DEPTH: usize = 256;

/// A body that is being read.
pub(super) struct Body<'a, 'u> {
    /// What is outside of it.
    pub(super) unit: &'u mut Unit<'a>,
    /// Innermost last.
    pub(super) scopes: Vec<Scope<'a>>,
    /// Its variables so far.
    pub(super) locals: Vec<Variable>,
    /// Its statements so far.
    pub(super) statements: Vec<Statement>,
    /// Registers so far, by class.
    pub(super) registers: [u32; 4],
    /// Names that no block of it knows: functions that follow.
    pub(super) unresolved: Vec<Reference<'a>>,
    /// From the last `.loc`.
    source: Option<(u32, u32)>,
}

/// Place of a class in the counts of registers.
pub(super) fn file(class: Class) -> usize {
    match class {
        Class::Predicate => 0,
        Class::Word => 1,
        Class::Double => 2,
        Class::Quad => 3,
    }
}

impl<'a, 'u> Body<'a, 'u> {
    /// A body whose outermost names are those of the parameters.
    pub(super) fn new(unit: &'u mut Unit<'a>, parameters: Scope<'a>) -> Self {
        Self {
            unit,
            scopes: vec![parameters],
            locals: Vec::new(),
            statements: Vec::new(),
            registers: [0; 4],
            unresolved: Vec::new(),
            source: None,
        }
    }

    /// Reads all of it, with both braces.
    pub(super) fn read(&mut self) -> Result<()> {
        let first = self.unit.cursor.sign('{')?;
        self.scopes.push(Scope::default());
        let outside = self.scopes.len() - 1;
        while self.scopes.len() > outside {
            let token = self.unit.cursor.token();
            match token.kind {
                Kind::Sign('{') => {
                    self.unit.cursor.next();
                    if self.scopes.len() > DEPTH {
                        return Err(token.fault(format_args!("more than {DEPTH} nested blocks")));
                    }
                    self.scopes.push(Scope::default());
                }
                Kind::Sign('}') => {
                    self.unit.cursor.next();
                    self.close()?;
                }
                Kind::Sign(';') => {
                    self.unit.cursor.next();
                }
                Kind::Dot(word) => self.directive(word)?,
                Kind::Word(_) if self.unit.cursor.ahead(1).kind == Kind::Sign(':') => {
                    self.labeled()?;
                }
                Kind::Word(_) | Kind::Sign('@') => self.statement()?,
                Kind::End => return Err(first.fault("no `}` closes this block")),
                _ => return Err(token.unexpected("a statement, a declaration or `}`")),
            }
        }
        // References to what no label names are left in the scope of the parameters.
        if let Some(scope) = self.scopes.pop() {
            self.unresolved = scope.references;
        }
        Ok(())
    }

    fn scope(&mut self) -> &mut Scope<'a> {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    /// What a name stands for here.
    pub(super) fn find(&self, name: &str) -> Option<Item> {
        let inside = self.scopes.iter().rev().find_map(|scope| scope.find(name));
        inside.or_else(|| self.unit.names.get(name).copied().map(Item::Symbol))
    }

    /// Remembers the name of a label that an operand of the next statement has.
    pub(super) fn refer(&mut self, operand: usize, target: Option<usize>, token: Token<'a>) {
        let statement = self.statements.len();
        self.scope().references.push(Reference { statement, operand, target, token });
    }

    /// Ends the innermost block: its labels are known now.
    fn close(&mut self) -> Result<()> {
        let Some(scope) = self.scopes.pop() else { return Ok(()) };
        let mut outside = Vec::new();
        let mut references = scope.references;
        while let Some(reference) = references.pop() {
            let name = reference.token.text;
            let operands = self
                .statements
                .get_mut(reference.statement)
                .map(|statement| &mut statement.operands);
            let Some(operand) = operands.and_then(|list| list.get_mut(reference.operand)) else {
                continue;
            };
            if let Some(index) = scope.labels.get(name) {
                match (operand, reference.target) {
                    (Operand::Targets(list), Some(target)) => {
                        if let Some(place) = list.get_mut(target) {
                            *place = *index;
                        }
                    }
                    (operand, _) => *operand = Operand::Label(*index),
                }
            } else if let (Some(list), None) = (scope.targets.get(name), reference.target) {
                *operand = Operand::Targets(vec![usize::MAX; list.len()]);
                references.extend(list.iter().enumerate().map(|(index, token)| Reference {
                    target: Some(index),
                    token: *token,
                    ..reference
                }));
            } else {
                outside.push(reference);
            }
        }
        match self.scopes.last_mut() {
            Some(outer) => outer.references.extend(outside),
            None => self.unresolved.extend(outside),
        }
        Ok(())
    }

    /// `name:` and, for lists of targets and prototypes, what follows.
    fn labeled(&mut self) -> Result<()> {
        let (token, name) = self.unit.cursor.word("a label")?;
        self.unit.cursor.sign(':')?;
        match self.unit.cursor.kind() {
            Kind::Dot("branchtargets") => {
                self.unit.cursor.next();
                let mut list = Vec::new();
                loop {
                    list.push(self.unit.cursor.word("a label")?.0);
                    if !self.unit.cursor.take_sign(',') {
                        break;
                    }
                }
                self.unit.cursor.sign(';')?;
                if self.scope().targets.insert(name, list).is_some() {
                    return Err(twice(&token));
                }
            }
            Kind::Dot("callprototype" | "calltargets") => {
                self.unit.cursor.skip_past(';')?;
                self.declare(token, name, Item::Prototype)?;
            }
            _ => {
                let next = self.statements.len();
                if self.scope().labels.insert(name, next).is_some() {
                    return Err(twice(&token));
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, token: Token<'a>, name: &'a str, item: Item) -> Result<()> {
        match self.scope().items.insert(name, item) {
            None => Ok(()),
            Some(_) => Err(twice(&token)),
        }
    }

    fn directive(&mut self, word: &'a str) -> Result<()> {
        let token = self.unit.cursor.next();
        match word {
            "reg" => self.registers(),
            "loc" => {
                if let Some(place) = location(&mut self.unit.cursor)? {
                    self.source = Some(place);
                }
                Ok(())
            }
            "pragma" => self.unit.cursor.skip_past(';'),
            "file" => self.unit.file(),
            "section" => self.unit.section(),
            "extern" | "visible" | "weak" | "common" => {
                let Kind::Dot(space) = self.unit.cursor.kind() else {
                    return Err(self.unit.cursor.token().unexpected("a state space"));
                };
                let space_token = self.unit.cursor.next();
                self.variables(&space_token, space, word == "extern")
            }
            _ => self.variables(&token, word, false),
        }
    }

    fn variables(&mut self, token: &Token<'a>, word: &str, is_extern: bool) -> Result<()> {
        let Some(space) = declare::space(word) else {
            return Err(token.unexpected("`.reg`, a state space, `.loc` or `.pragma`"));
        };
        let variables = declare::variables(&mut self.unit.cursor, space, is_extern)?;
        self.unit.cursor.sign(';')?;
        for (token, variable) in variables {
            let symbol = match space {
                super::syntax::Space::Global | super::syntax::Space::Const => {
                    self.unit.add_variable(variable)
                }
                _ => {
                    self.locals.push(variable);
                    super::syntax::Symbol::Local(self.locals.len() - 1)
                }
            };
            if let Kind::Word(name) = token.kind {
                self.declare(token, name, Item::Symbol(symbol))?;
            }
        }
        Ok(())
    }

    fn registers(&mut self) -> Result<()> {
        let mut kind = None;
        let mut lanes = None;
        while let Kind::Dot(word) = self.unit.cursor.kind() {
            let token = self.unit.cursor.next();
            match word {
                "v2" => lanes = Some(2),
                "v4" => lanes = Some(4),
                "v8" => lanes = Some(8),
                _ => match class(word) {
                    Some(class) => kind = Some(class),
                    None => return Err(token.unexpected("a type of registers")),
                },
            }
        }
        let Some(kind) = kind else {
            return Err(self.unit.cursor.token().unexpected("a type such as `.b32`"));
        };
        loop {
            let (token, name) = self.unit.cursor.word("the name of a register")?;
            let item = if self.unit.cursor.take_sign('<') {
                let count = self.unit.cursor.integer32("how many registers there are")?;
                self.unit.cursor.sign('>')?;
                if lanes.is_some() {
                    return Err(token.fault("a range of vectors of registers"));
                }
                Item::Range(self.new_registers(&token, kind, count)?, count)
            } else {
                let first = self.new_registers(&token, kind, lanes.unwrap_or(1))?;
                match lanes {
                    Some(lanes) => Item::Vector(first, lanes),
                    None => Item::Register(first),
                }
            };
            self.declare(token, name, item)?;
            if !self.unit.cursor.take_sign(',') {
                break;
            }
        }
        self.unit.cursor.sign(';').map(|_| ())
    }

    fn new_registers(&mut self, token: &Token<'a>, class: Class, count: u32) -> Result<Register> {
        let used = &mut self.registers[file(class)];
        let index = *used;
        match used.checked_add(count) {
            Some(sum) if sum <= REGISTERS => *used = sum,
            _ => return Err(token.fault(format_args!("more than {REGISTERS} registers"))),
        }
        Ok(Register { class, index })
    }

    fn statement(&mut self) -> Result<()> {
        let guard = if self.unit.cursor.take_sign('@') {
            let negated = self.unit.cursor.take_sign('!');
            let (register, token) = self.register()?;
            if register.class != Class::Predicate {
                return Err(token.unexpected("a predicate after `@`"));
            }
            Some(Guard { register, negated })
        } else {
            None
        };
        let (token, family) = self.unit.cursor.word("an instruction")?;
        if family.starts_with(['%', '$', '_']) {
            return Err(token.unexpected("an instruction"));
        }
        let mut suffixes = Vec::new();
        while let Kind::Dot(word) = self.unit.cursor.kind() {
            self.unit.cursor.next();
            suffixes.push(word.to_owned());
        }
        let operands = self.operands(family)?;
        self.statements.push(Statement {
            line: token.line,
            source: self.source,
            guard,
            family: family.to_owned(),
            suffixes,
            operands,
        });
        Ok(())
    }
}

fn twice(token: &Token<'_>) -> crate::fault::Fault {
    token.fault(format_args!("`{}` is declared twice in this block", token.text))
}

/// What follows `.loc`: file, line, column and, for inlined code, from where. Line 0 is none.
pub(super) fn location(cursor: &mut Cursor<'_>) -> Result<Option<(u32, u32)>> {
    let file = cursor.integer32("the number of a file")?;
    let line = cursor.integer32("a line")?;
    cursor.integer("a column")?;
    while cursor.take_sign(',') {
        let (token, word) = cursor.word("`function_name` or `inlined_at`")?;
        match word {
            "function_name" => {
                cursor.word("a label")?;
                cursor.offset()?;
            }
            "inlined_at" => {
                for expected in ["the number of a file", "a line", "a column"] {
                    cursor.integer(expected)?;
                }
            }
            _ => return Err(token.unexpected("`function_name` or `inlined_at`")),
        }
    }
    Ok((line != 0).then_some((file, line)))
}
