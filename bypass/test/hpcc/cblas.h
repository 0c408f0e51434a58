/* SPDX-License-Identifier: Apache-2.0 */
/* The ten functions of CBLAS that hpcc calls, for columns stored one after the other. For tests:
 * simple, not fast. */
#ifndef V3M_TEST_CBLAS_H
#define V3M_TEST_CBLAS_H

enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112, CblasConjTrans = 113 };
enum CBLAS_UPLO { CblasUpper = 121, CblasLower = 122 };
enum CBLAS_DIAG { CblasNonUnit = 131, CblasUnit = 132 };
enum CBLAS_SIDE { CblasLeft = 141, CblasRight = 142 };
#define CBLAS_INDEX int

CBLAS_INDEX cblas_idamax(int n, const double *x, int step);
void cblas_dswap(int n, double *x, int x_step, double *y, int y_step);
void cblas_dcopy(int n, const double *x, int x_step, double *y, int y_step);
void cblas_daxpy(int n, double a, const double *x, int x_step, double *y, int y_step);
void cblas_dscal(int n, double a, double *x, int step);
void cblas_dgemv(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans, int m, int n, double alpha,
                 const double *a, int lda, const double *x, int x_step, double beta, double *y,
                 int y_step);
void cblas_dger(enum CBLAS_ORDER order, int m, int n, double alpha, const double *x, int x_step,
                const double *y, int y_step, double *a, int lda);
void cblas_dtrsv(enum CBLAS_ORDER order, enum CBLAS_UPLO uplo, enum CBLAS_TRANSPOSE trans,
                 enum CBLAS_DIAG diag, int n, const double *a, int lda, double *x, int step);
void cblas_dgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans_a, enum CBLAS_TRANSPOSE trans_b,
                 int m, int n, int k, double alpha, const double *a, int lda, const double *b,
                 int ldb, double beta, double *c, int ldc);
void cblas_dtrsm(enum CBLAS_ORDER order, enum CBLAS_SIDE side, enum CBLAS_UPLO uplo,
                 enum CBLAS_TRANSPOSE trans, enum CBLAS_DIAG diag, int m, int n, double alpha,
                 const double *a, int lda, double *b, int ldb);

#endif
