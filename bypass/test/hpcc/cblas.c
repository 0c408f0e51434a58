// SPDX-License-Identifier: Apache-2.0
#include "cblas.h"

#include <math.h>
#include <stdlib.h>

/* Element i of a vector: with a negative step the vector begins at its end. */
static long at(int i, int n, int step)
{
    return step >= 0 ? (long)i * step : (long)(i - n + 1) * step;
}

/* Nothing but columns is stored here. */
static void columns_only(enum CBLAS_ORDER order)
{
    if (order != CblasColMajor) {
        abort();
    }
}

CBLAS_INDEX cblas_idamax(int n, const double *x, int step)
{
    int best = 0;
    for (int i = 1; i < n; i++) {
        best = fabs(x[(long)i * step]) > fabs(x[(long)best * step]) ? i : best;
    }
    return best;
}

void cblas_dswap(int n, double *x, int x_step, double *y, int y_step)
{
    for (int i = 0; i < n; i++) {
        double value = x[at(i, n, x_step)];
        x[at(i, n, x_step)] = y[at(i, n, y_step)];
        y[at(i, n, y_step)] = value;
    }
}

void cblas_dcopy(int n, const double *x, int x_step, double *y, int y_step)
{
    for (int i = 0; i < n; i++) {
        y[at(i, n, y_step)] = x[at(i, n, x_step)];
    }
}

void cblas_daxpy(int n, double a, const double *x, int x_step, double *y, int y_step)
{
    for (int i = 0; i < n; i++) {
        y[at(i, n, y_step)] += a * x[at(i, n, x_step)];
    }
}

void cblas_dscal(int n, double a, double *x, int step)
{
    for (int i = 0; i < n; i++) {
        x[(long)i * step] *= a;
    }
}

void cblas_dgemv(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans, int m, int n, double alpha,
                 const double *a, int lda, const double *x, int x_step, double beta, double *y,
                 int y_step)
{
    int rows = trans == CblasNoTrans ? m : n;
    int inner = trans == CblasNoTrans ? n : m;
    columns_only(order);
    for (int i = 0; i < rows; i++) {
        double sum = 0;
        for (int j = 0; j < inner; j++) {
            sum += (trans == CblasNoTrans ? a[i + (long)j * lda] : a[j + (long)i * lda]) *
                   x[at(j, inner, x_step)];
        }
        double *out = &y[at(i, rows, y_step)];
        *out = alpha * sum + (beta == 0 ? 0 : beta * *out);
    }
}

void cblas_dger(enum CBLAS_ORDER order, int m, int n, double alpha, const double *x, int x_step,
                const double *y, int y_step, double *a, int lda)
{
    columns_only(order);
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < m; i++) {
            a[i + (long)j * lda] += alpha * x[at(i, m, x_step)] * y[at(j, n, y_step)];
        }
    }
}

/* Element (i, j) of a triangle that may be transposed. */
static double triangle(enum CBLAS_TRANSPOSE trans, const double *a, int lda, int i, int j)
{
    return trans == CblasNoTrans ? a[i + (long)j * lda] : a[j + (long)i * lda];
}

/* Solve for one vector, in place. */
static void solve(enum CBLAS_UPLO uplo, enum CBLAS_TRANSPOSE trans, enum CBLAS_DIAG diag, int n,
                  const double *a, int lda, double *x, long step)
{
    int forward = (uplo == CblasLower) == (trans == CblasNoTrans);
    for (int k = 0; k < n; k++) {
        int i = forward ? k : n - 1 - k;
        double value = x[i * step];
        for (int j = forward ? 0 : i + 1; j < (forward ? i : n); j++) {
            value -= triangle(trans, a, lda, i, j) * x[j * step];
        }
        x[i * step] = diag == CblasUnit ? value : value / triangle(trans, a, lda, i, i);
    }
}

void cblas_dtrsv(enum CBLAS_ORDER order, enum CBLAS_UPLO uplo, enum CBLAS_TRANSPOSE trans,
                 enum CBLAS_DIAG diag, int n, const double *a, int lda, double *x, int step)
{
    columns_only(order);
    solve(uplo, trans, diag, n, a, lda, x, step);
}

void cblas_dgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans_a, enum CBLAS_TRANSPOSE trans_b,
                 int m, int n, int k, double alpha, const double *a, int lda, const double *b,
                 int ldb, double beta, double *c, int ldc)
{
    columns_only(order);
    for (int j = 0; j < n; j++) {
        double *column = c + (long)j * ldc;
        for (int i = 0; i < m; i++) {
            column[i] = beta == 0 ? 0 : beta * column[i];
        }
        for (int l = 0; l < k; l++) {
            double factor =
                alpha * (trans_b == CblasNoTrans ? b[l + (long)j * ldb] : b[j + (long)l * ldb]);
            for (int i = 0; i < m; i++) {
                column[i] += factor * (trans_a == CblasNoTrans ? a[i + (long)l * lda]
                                                               : a[l + (long)i * lda]);
            }
        }
    }
}

void cblas_dtrsm(enum CBLAS_ORDER order, enum CBLAS_SIDE side, enum CBLAS_UPLO uplo,
                 enum CBLAS_TRANSPOSE trans, enum CBLAS_DIAG diag, int m, int n, double alpha,
                 const double *a, int lda, double *b, int ldb)
{
    columns_only(order);
    for (int j = 0; j < n; j++) {
        cblas_dscal(m, alpha, b + (long)j * ldb, 1);
    }
    if (side == CblasLeft) {
        for (int j = 0; j < n; j++) {
            solve(uplo, trans, diag, m, a, lda, b + (long)j * ldb, 1);
        }
        return;
    }
    /* From the right: the rows of b, by the other triangle. */
    enum CBLAS_TRANSPOSE other = trans == CblasNoTrans ? CblasTrans : CblasNoTrans;
    for (int i = 0; i < m; i++) {
        solve(uplo, other, diag, n, a, lda, b + i, ldb);
    }
}
