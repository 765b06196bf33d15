% Domain   : group theory, in relations
% Status   : Unsatisfiable
cnf(closed, axiom, product(X, Y, mul(X, Y))).
cnf(associative_1, axiom, ~ product(X, Y, U) | ~ product(Y, Z, V) | ~ product(U, Z, W) | product(X, V, W)).
cnf(associative_2, axiom, ~ product(X, Y, U) | ~ product(Y, Z, V) | ~ product(X, V, W) | product(U, Z, W)).
cnf(left_unit, axiom, product(unit, X, X)).
cnf(left_inverse, axiom, product(inverse(X), X, unit)).
cnf(goal, negated_conjecture, ~ product(a, inverse(a), unit)).
