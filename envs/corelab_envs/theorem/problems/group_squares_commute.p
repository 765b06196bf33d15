% Domain   : group theory: if all squares are the unit, the group is commutative
% Status   : Unsatisfiable
cnf(closed, axiom, product(X, Y, mul(X, Y))).
cnf(associative_1, axiom, ~ product(X, Y, U) | ~ product(Y, Z, V) | ~ product(U, Z, W) | product(X, V, W)).
cnf(associative_2, axiom, ~ product(X, Y, U) | ~ product(Y, Z, V) | ~ product(X, V, W) | product(U, Z, W)).
cnf(left_unit, axiom, product(unit, X, X)).
cnf(left_inverse, axiom, product(inverse(X), X, unit)).
cnf(right_unit, axiom, product(X, unit, X)).
cnf(right_inverse, axiom, product(X, inverse(X), unit)).
cnf(square, hypothesis, product(X, X, unit)).
cnf(product_of_two, hypothesis, product(a, b, c)).
cnf(goal, negated_conjecture, ~ product(b, a, c)).
