% Domain   : arithmetic in successors: an even number
% Status   : Theorem
fof(zero, axiom, even(zero)).
fof(next, axiom, ! [X] : (even(X) => even(s(s(X))))).
fof(goal, conjecture, even(s(s(s(s(s(s(zero)))))))).
