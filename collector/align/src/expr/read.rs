//! Words to a tree, by recursive descent of bounded depth.

use super::ast::{Function, Kind, Node, Operator};
use super::lex::{Word, words};
use super::{EXPR_DEPTH_MAX, ExprError};
use crate::recipe::nearest::hint;

pub(super) fn read(text: &str) -> Result<Node, ExprError> {
    let words = words(text)?;
    let mut reader = Reader { words: &words, next: 0, depth: 0, end: text.len() };
    let node = reader.or()?;
    match reader.peek() {
        None => Ok(node),
        Some(word) => {
            let text = format!("{} is left over; is an operator missing before it?", shown(word));
            Err(ExprError::new(reader.at(), text))
        }
    }
}

struct Reader<'a> {
    words: &'a [(usize, Word)],
    next: usize,
    depth: usize,
    end: usize,
}

fn shown(word: &Word) -> String {
    match word {
        Word::Int(value) => value.to_string(),
        Word::Float(value) => value.to_string(),
        Word::Text(text) => format!("{text:?}"),
        Word::Name(name) => name.clone(),
        Word::Sign(sign) => format!("{sign:?}"),
    }
}

fn binary(operator: Operator, left: Node, right: Node) -> Node {
    Node { at: left.at, kind: Kind::Binary(operator, Box::new(left), Box::new(right)) }
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.next).map(|(_, word)| word)
    }

    fn at(&self) -> usize {
        self.words.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    /// Takes the sign or word if it comes next.
    fn takes(&mut self, spellings: &[&str]) -> bool {
        let is_next = match self.peek() {
            Some(Word::Sign(sign)) => spellings.contains(sign),
            Some(Word::Name(name)) => spellings.contains(&name.as_str()),
            _ => false,
        };
        self.next += usize::from(is_next);
        is_next
    }

    fn deeper(&mut self) -> Result<(), ExprError> {
        self.depth += 1;
        if self.depth > EXPR_DEPTH_MAX {
            let text = format!(
                "nested or chained more than {EXPR_DEPTH_MAX} deep; derive a part as a column of its own"
            );
            return Err(ExprError::new(self.at(), text));
        }
        Ok(())
    }

    /// A chain `next (operator next)*`, grouped from the left; its length counts as depth, for the tree is as deep.
    fn chain(
        &mut self,
        operators: &[(&[&str], Operator)],
        next: fn(&mut Self) -> Result<Node, ExprError>,
    ) -> Result<Node, ExprError> {
        let depth = self.depth;
        let mut left = next(self)?;
        while let Some((_, operator)) = operators.iter().find(|(spellings, _)| self.takes(spellings)) {
            self.deeper()?;
            left = binary(*operator, left, next(self)?);
        }
        self.depth = depth;
        Ok(left)
    }

    fn or(&mut self) -> Result<Node, ExprError> {
        self.chain(&[(&["or", "||"], Operator::Or)], Self::and)
    }

    fn and(&mut self) -> Result<Node, ExprError> {
        self.chain(&[(&["and", "&&"], Operator::And)], Self::not)
    }

    fn not(&mut self) -> Result<Node, ExprError> {
        let at = self.at();
        if !self.takes(&["not", "!"]) {
            return self.compare();
        }
        self.deeper()?;
        let inner = self.not()?;
        self.depth -= 1;
        Ok(Node { at, kind: Kind::Not(Box::new(inner)) })
    }

    fn compare(&mut self) -> Result<Node, ExprError> {
        let operators: [(&[&str], Operator); 6] = [
            (&["=", "=="], Operator::Equal),
            (&["!="], Operator::NotEqual),
            (&["<="], Operator::LessEqual),
            (&["<"], Operator::Less),
            (&[">="], Operator::GreaterEqual),
            (&[">"], Operator::Greater),
        ];
        let left = self.sum()?;
        let Some((_, operator)) = operators.iter().find(|(spellings, _)| self.takes(spellings)) else {
            return Ok(left);
        };
        let right = self.sum()?;
        let at = self.at();
        if operators.iter().any(|(spellings, _)| self.takes(spellings)) {
            return Err(ExprError::new(at, "comparisons are not chained; write `a < b and b < c`"));
        }
        Ok(binary(*operator, left, right))
    }

    fn sum(&mut self) -> Result<Node, ExprError> {
        self.chain(&[(&["+"], Operator::Add), (&["-"], Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Node, ExprError> {
        let operators: [(&[&str], Operator); 3] =
            [(&["*"], Operator::Multiply), (&["/"], Operator::Divide), (&["%"], Operator::Remainder)];
        self.chain(&operators, Self::unary)
    }

    fn unary(&mut self) -> Result<Node, ExprError> {
        let at = self.at();
        if !self.takes(&["-"]) {
            return self.primary();
        }
        self.deeper()?;
        let inner = self.unary()?;
        self.depth -= 1;
        Ok(Node { at, kind: Kind::Negate(Box::new(inner)) })
    }

    fn primary(&mut self) -> Result<Node, ExprError> {
        let at = self.at();
        let Some(word) = self.peek().cloned() else {
            return Err(ExprError::new(at, "a formula ends where a value is expected"));
        };
        self.next += 1;
        let kind = match word {
            Word::Int(value) => Kind::Int(value),
            Word::Float(value) => Kind::Float(value),
            Word::Text(text) => Kind::Text(text),
            Word::Sign("(") => return self.bracket(),
            Word::Sign(sign) => {
                return Err(ExprError::new(at, format!("{sign:?} stands where a value is expected")));
            }
            Word::Name(name) => match name.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "null" => Kind::Null,
                "and" | "or" | "not" => {
                    return Err(ExprError::new(at, format!("{name} stands where a value is expected")));
                }
                _ => return self.name(name, at),
            },
        };
        Ok(Node { at, kind })
    }

    fn bracket(&mut self) -> Result<Node, ExprError> {
        self.deeper()?;
        let inner = self.or()?;
        self.depth -= 1;
        if self.takes(&[")"]) {
            return Ok(inner);
        }
        Err(ExprError::new(self.at(), "a bracket is not closed; write `)`"))
    }

    /// A column, or a function with its arguments.
    fn name(&mut self, name: String, at: usize) -> Result<Node, ExprError> {
        if self.takes(&["("]) {
            return self.call(&name, at);
        }
        let mut path = vec![name];
        while self.takes(&["."]) {
            match self.peek().cloned() {
                Some(Word::Name(member)) => {
                    self.next += 1;
                    path.push(member);
                }
                _ => return Err(ExprError::new(self.at(), "a member's name is expected after the dot")),
            }
        }
        Ok(Node { at, kind: Kind::Column(path) })
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Node, ExprError> {
        let Some(function) = Function::ALL.iter().copied().find(|function| function.word() == name) else {
            let hint = hint(name, Function::ALL.iter().map(|function| function.word()));
            return Err(ExprError::new(at, format!("{name} is no function{hint}")));
        };
        let mut arguments = Vec::new();
        self.deeper()?;
        while !self.takes(&[")"]) {
            if !arguments.is_empty() && !self.takes(&[","]) {
                return Err(ExprError::new(self.at(), format!("`,` or `)` is expected in {name}( ... )")));
            }
            arguments.push(self.or()?);
        }
        self.depth -= 1;
        let (least, most) = function.arity();
        if (least..=most).contains(&arguments.len()) {
            return Ok(Node { at, kind: Kind::Call(function, arguments) });
        }
        let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let text = format!(
            "{name} takes {wanted} argument{}, not {}",
            if most == 1 { "" } else { "s" },
            arguments.len()
        );
        Err(ExprError::new(at, text))
    }
}
