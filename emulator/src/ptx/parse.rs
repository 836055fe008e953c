//! A translation unit: directives, variables and functions.

use std::collections::HashMap;

use super::body::{Body, file, location};
use super::cursor::Cursor;
use super::declare;
use super::operand::unknown;
use super::scope::{Item, Reference, Scope};
use super::syntax::{Base, Function, Module, Operand, Register, Symbol, Variable};
use super::token::{Kind, Token, tokens};
use crate::fault::Result;

/// Parses a translation unit.
pub fn parse(text: &str) -> Result<Module> {
    let mut unit = Unit {
        cursor: Cursor::new(tokens(text)?),
        module: Module::default(),
        names: HashMap::new(),
        counts: HashMap::new(),
        unresolved: Vec::new(),
        aliases: Vec::new(),
    };
    unit.read()?;
    unit.resolve()?;
    unit.number_registers();
    Ok(unit.module)
}

/// A module that is being read.
pub(super) struct Unit<'a> {
    /// Where the reader stands.
    pub(super) cursor: Cursor<'a>,
    module: Module,
    /// Variables and functions outside of functions.
    pub(super) names: HashMap<&'a str, Symbol>,
    /// Registers by function and class.
    counts: HashMap<usize, [u32; 4]>,
    /// Names of functions that were used before their declaration, by function.
    unresolved: Vec<(usize, Reference<'a>)>,
    /// `.alias`: the name and what it stands for.
    aliases: Vec<(Token<'a>, Token<'a>)>,
}

impl<'a> Unit<'a> {
    fn read(&mut self) -> Result<()> {
        loop {
            let token = self.cursor.token();
            match token.kind {
                Kind::End => return Ok(()),
                Kind::Dot(word) => {
                    self.cursor.next();
                    self.directive(&token, word)?;
                }
                Kind::Sign(';') => {
                    self.cursor.next();
                }
                _ => return Err(token.unexpected("a directive, a variable or a function")),
            }
        }
    }

    fn directive(&mut self, token: &Token<'a>, word: &'a str) -> Result<()> {
        match word {
            "version" => self.version(),
            "target" => {
                self.module.target = self.cursor.word("a target such as `sm_90`")?.1.to_owned();
                while self.cursor.take_sign(',') {
                    self.cursor.word("an option of the target")?;
                }
                Ok(())
            }
            "address_size" => match self.cursor.integer("64")? {
                64 => Ok(()),
                size => Err(token.fault(format_args!("addresses of {size} bits"))),
            },
            "file" => self.file(),
            "loc" => location(&mut self.cursor).map(|_| ()),
            "section" => self.section(),
            "pragma" => self.cursor.skip_past(';'),
            "alias" => {
                let alias = self.cursor.word("the name of a function")?.0;
                self.cursor.sign(',')?;
                let function = self.cursor.word("the name of a function")?.0;
                self.aliases.push((alias, function));
                self.cursor.sign(';').map(|_| ())
            }
            "extern" | "visible" | "weak" | "common" => match self.cursor.kind() {
                Kind::Dot(inner) => {
                    let next = self.cursor.next();
                    self.declaration(&next, inner, word == "extern")
                }
                _ => Err(self.cursor.token().unexpected("a variable or a function")),
            },
            _ => self.declaration(token, word, false),
        }
    }

    fn version(&mut self) -> Result<()> {
        let token = self.cursor.token();
        let wrong = || token.unexpected("a version such as 9.0");
        let (major, minor) = token.text.split_once('.').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        self.module.version = (number(major)?, number(minor)?);
        self.cursor.next();
        Ok(())
    }

    /// What follows `.file`: number and name, and perhaps a time and a size.
    pub(super) fn file(&mut self) -> Result<()> {
        let number = self.cursor.integer32("the number of a file")?;
        let name = self.cursor.string("the name of a file")?;
        while self.cursor.take_sign(',') {
            self.cursor.integer("a time or a size")?;
        }
        self.module.files.push((number, name));
        Ok(())
    }

    /// What follows `.section`: debug information, which is passed over.
    pub(super) fn section(&mut self) -> Result<()> {
        while self.cursor.kind() != Kind::Sign('{') {
            match self.cursor.kind() {
                Kind::Dot(_) | Kind::Word(_) | Kind::Text(_) => self.cursor.next(),
                _ => return Err(self.cursor.token().unexpected("`{` of the section")),
            };
        }
        self.cursor.skip_between('{', '}')
    }

    fn declaration(&mut self, token: &Token<'a>, word: &'a str, is_extern: bool) -> Result<()> {
        if matches!(word, "entry" | "func") {
            return self.function(word == "entry");
        }
        let Some(space) = declare::space(word) else {
            return Err(token.unexpected("a directive, a state space, `.entry` or `.func`"));
        };
        let variables = declare::variables(&mut self.cursor, space, is_extern)?;
        self.cursor.sign(';')?;
        for (token, variable) in variables {
            let Kind::Word(name) = token.kind else { continue };
            match self.names.get(name) {
                None => {
                    let symbol = self.add_variable(variable);
                    self.names.insert(name, symbol);
                }
                // A declaration and the definition.
                Some(Symbol::Global(index)) => match self.module.variables.get_mut(*index) {
                    Some(old) if old.is_extern => *old = variable,
                    _ if variable.is_extern => {}
                    _ => return Err(token.fault(format_args!("`{name}` is declared twice"))),
                },
                Some(_) => return Err(token.fault(format_args!("`{name}` is declared twice"))),
            }
        }
        Ok(())
    }

    /// Adds a variable of the module.
    pub(super) fn add_variable(&mut self, variable: Variable) -> Symbol {
        self.module.variables.push(variable);
        Symbol::Global(self.module.variables.len() - 1)
    }

    fn function(&mut self, is_entry: bool) -> Result<()> {
        while let Kind::Dot("attribute") = self.cursor.kind() {
            self.cursor.next();
            self.cursor.skip_parentheses()?;
        }
        let mut scope = Scope::default();
        let results = if self.cursor.kind() == Kind::Sign('(') {
            self.parameters(&mut scope, Symbol::Result)?
        } else {
            Vec::new()
        };
        let (token, name) = self.cursor.word("the name of a function")?;
        let parameters = if self.cursor.kind() == Kind::Sign('(') {
            self.parameters(&mut scope, Symbol::Parameter)?
        } else {
            Vec::new()
        };
        let mut function = Function {
            name: name.to_owned(),
            is_entry,
            parameters,
            results,
            locals: Vec::new(),
            body: Vec::new(),
            is_defined: false,
            max_threads: None,
            required_cluster: None,
        };
        self.attributes(&mut function)?;
        let index = self.index(&token, name)?;
        if self.cursor.take_sign(';') {
            if let Some(place) = self.module.functions.get_mut(index)
                && place.name.is_empty()
            {
                *place = function;
            }
            return Ok(());
        }
        if self.module.functions.get(index).is_some_and(|function| function.is_defined) {
            return Err(token.fault(format_args!("`{name}` is defined twice")));
        }
        self.cursor.in_body = true;
        let mut body = Body::new(self, scope);
        body.read()?;
        let (locals, statements) = (body.locals, body.statements);
        let (registers, unresolved) = (body.registers, body.unresolved);
        self.cursor.in_body = false;
        function.locals = locals;
        function.body = statements;
        function.is_defined = true;
        self.counts.insert(index, registers);
        self.unresolved.extend(unresolved.into_iter().map(|reference| (index, reference)));
        if let Some(place) = self.module.functions.get_mut(index) {
            *place = function;
        }
        Ok(())
    }

    /// Place of the function with this name; a new one has no name yet.
    fn index(&mut self, token: &Token<'a>, name: &'a str) -> Result<usize> {
        match self.names.get(name) {
            Some(Symbol::Function(index)) => Ok(*index),
            Some(_) => Err(token.fault(format_args!("`{name}` is a variable already"))),
            None => {
                let index = self.module.functions.len();
                self.names.insert(name, Symbol::Function(index));
                self.module.functions.push(Function {
                    name: String::new(),
                    is_entry: false,
                    parameters: Vec::new(),
                    results: Vec::new(),
                    locals: Vec::new(),
                    body: Vec::new(),
                    is_defined: false,
                    max_threads: None,
                    required_cluster: None,
                });
                Ok(index)
            }
        }
    }

    /// `(.param .b32 a, .param .b32 b)`
    fn parameters(
        &mut self,
        scope: &mut Scope<'a>,
        symbol: fn(usize) -> Symbol,
    ) -> Result<Vec<Variable>> {
        let mut parameters = Vec::new();
        self.cursor.sign('(')?;
        while !self.cursor.take_sign(')') {
            if !parameters.is_empty() {
                self.cursor.sign(',')?;
            }
            let token = self.cursor.token();
            match token.kind {
                Kind::Dot("param") => self.cursor.next(),
                _ => return Err(token.unexpected("`.param`")),
            };
            for (token, variable) in
                declare::variables(&mut self.cursor, super::syntax::Space::Param, false)?
            {
                if let Kind::Word(name) = token.kind {
                    scope.items.insert(name, Item::Symbol(symbol(parameters.len())));
                }
                parameters.push(variable);
            }
        }
        Ok(parameters)
    }

    /// The directives between the parameters and the body.
    fn attributes(&mut self, function: &mut Function) -> Result<()> {
        while let Kind::Dot(word) = self.cursor.kind() {
            let token = self.cursor.next();
            if word == "pragma" {
                self.cursor.skip_past(';')?;
                continue;
            }
            let mut numbers = Vec::new();
            while let Kind::Number(_) = self.cursor.kind() {
                numbers.push(self.cursor.integer32("a number of 32 bits")?);
                if !self.cursor.take_sign(',') {
                    break;
                }
            }
            match (word, numbers.as_slice()) {
                ("maxntid" | "reqntid", [_, ..]) => {
                    let threads =
                        numbers.iter().try_fold(1_u32, |product, n| product.checked_mul(*n));
                    function.max_threads =
                        Some(threads.ok_or_else(|| token.unexpected("fewer threads"))?);
                }
                ("reqnctapercluster", [x, rest @ ..]) => {
                    let axis = |index: usize| rest.get(index).copied().unwrap_or(1);
                    function.required_cluster = Some([*x, axis(0), axis(1)]);
                }
                (
                    "minnctapersm"
                    | "maxnctapersm"
                    | "maxnreg"
                    | "explicitcluster"
                    | "maxclusterrank"
                    | "noreturn"
                    | "blocksareclusters"
                    | "abi_preserve"
                    | "abi_preserve_control",
                    _,
                ) => {}
                _ => return Err(token.unexpected("a directive of a function, `;` or `{`")),
            }
        }
        Ok(())
    }

    /// Uses of functions before their declaration, and aliases.
    fn resolve(&mut self) -> Result<()> {
        for (function, reference) in &self.unresolved {
            let symbol = match self.names.get(reference.token.text) {
                Some(symbol @ Symbol::Function(_)) if reference.target.is_none() => *symbol,
                _ => return Err(unknown(&reference.token)),
            };
            let statements = self.module.functions.get_mut(*function).map(|f| &mut f.body);
            let statement = statements.and_then(|body| body.get_mut(reference.statement));
            if let Some(operand) = statement.and_then(|s| s.operands.get_mut(reference.operand)) {
                *operand = Operand::Symbol(symbol, 0);
            }
        }
        for (alias, function) in &self.aliases {
            let index = |token: &Token<'_>| match self.names.get(token.text) {
                Some(Symbol::Function(index)) => Ok(*index),
                _ => Err(unknown(token)),
            };
            let (alias, function) = (index(alias)?, index(function)?);
            let Some(body) = self.module.functions.get(function).cloned() else { continue };
            if let Some(place) = self.module.functions.get_mut(alias) {
                *place = Function { name: place.name.clone(), ..body };
            }
            let counts = self.counts.get(&function).copied().unwrap_or_default();
            self.counts.insert(alias, counts);
        }
        Ok(())
    }

    /// Gives each function registers of its own. Kernels do not call each other, so they share.
    fn number_registers(&mut self) {
        let mut next = [0_u32; 4];
        let mut most = [0_u32; 4];
        for kernels in [false, true] {
            for (index, function) in self.module.functions.iter_mut().enumerate() {
                if function.is_entry != kernels {
                    continue;
                }
                let counts = self.counts.get(&index).copied().unwrap_or_default();
                for statement in &mut function.body {
                    if let Some(guard) = &mut statement.guard {
                        guard.register.index += next[file(guard.register.class)];
                    }
                    for operand in &mut statement.operands {
                        each_register(operand, &mut |register| {
                            register.index += next[file(register.class)];
                        });
                    }
                }
                for ((next, most), count) in next.iter_mut().zip(&mut most).zip(counts) {
                    let end = next.saturating_add(count);
                    *most = (*most).max(end);
                    if !kernels {
                        *next = end;
                    }
                }
            }
        }
        self.module.registers = most;
    }
}

fn each_register(operand: &mut Operand, change: &mut impl FnMut(&mut Register)) {
    match operand {
        Operand::Register(register)
        | Operand::Not(register)
        | Operand::Address(Base::Register(register), _) => change(register),
        Operand::Pair(first, second) => first.iter_mut().chain(second).for_each(change),
        Operand::Vector(list) | Operand::List(list) => {
            list.iter_mut().for_each(|operand| each_register(operand, change));
        }
        Operand::TensorAddress(base, _, list) => {
            if let Base::Register(register) = base {
                change(register);
            }
            list.iter_mut().for_each(|operand| each_register(operand, change));
        }
        Operand::Address(..)
        | Operand::Literal(_)
        | Operand::Sink
        | Operand::Symbol(..)
        | Operand::Special(_)
        | Operand::Unknown(_)
        | Operand::Label(_)
        | Operand::Targets(_) => {}
    }
}
