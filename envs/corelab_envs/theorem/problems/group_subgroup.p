% Domain   : group theory: a subset closed under x / y holds the unit
% Status   : Unsatisfiable
cnf(closed, axiom, product(X, Y, mul(X, Y))).
cnf(associative_1, axiom, ~ product(X, Y, U) | ~ product(Y, Z, V) | ~ product(U, Z, W) | product(X, V, W)).
cnf(associative_2, axiom, ~ product(X, Y, U) | ~ product(Y, Z, V) | ~ product(X, V, W) | product(U, Z, W)).
cnf(left_unit, axiom, product(unit, X, X)).
cnf(left_inverse, axiom, product(inverse(X), X, unit)).
cnf(right_unit, axiom, product(X, unit, X)).
cnf(right_inverse, axiom, product(X, inverse(X), unit)).
cnf(closed_subset, hypothesis, ~ in(X) | ~ in(Y) | ~ product(X, inverse(Y), Z) | in(Z)).
cnf(member, hypothesis, in(a)).
cnf(goal, negated_conjecture, ~ in(unit)).
