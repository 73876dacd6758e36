"""Sentences of chest reports in three families that share none; the third is the external site's.

A statement is told easily, in words of its own, or in words that every answer shares, so that only their order decides (`hedged`).
`{}` takes a grade. Source: written for this project after the common phrases of radiology reports; no sentence is a patient's.
"""

from __future__ import annotations

FAMILIES = 3
GRADE_WORDS = ("no", "mild", "moderate", "severe")

# By answer: yes, no, possible. Nothing is written for what is not told.
EFFUSION = (
    (
        ("There is a pleural effusion.", "A pleural effusion is present at the base."),
        ("No pleural effusion.", "There is no pleural effusion."),
        ("A small pleural effusion cannot be excluded.", "Question small pleural effusion."),
    ),
    (
        ("Layering pleural fluid is again demonstrated.", "Pleural fluid blunts the costophrenic angle."),
        ("The pleural spaces are clear, without fluid.", "Costophrenic angles are sharp, no fluid is demonstrated."),
        ("Blunting of the costophrenic angle, possibly fluid or scar.", "Some pleural fluid might be obscured by technique."),
    ),
    (
        ("Effusion noted basally.", "Basal density in keeping with effusion."),
        ("Effusion absent.", "Neither side shows effusion."),
        ("Effusion not assessable basally.", "Trace effusion conceivable."),
    ),
)
OWN_STATED = (
    (
        ("Multiple pulmonary metastases are seen.", "New metastases in the lungs."),
        ("The visualized osseous structures are intact.", "Osseous structures are unremarkable."),
        ("A nodular density is indeterminate.", "An indeterminate density projects over the lung."),
    ),
    (
        ("Findings are compatible with metastatic spread.", "Metastatic deposits have developed."),
        ("Bony thorax is normal for age.", "Mild degenerative spurring of the spine."),
        ("Follow up of a subtle opacity is advised.", "A subtle opacity is of uncertain significance."),
    ),
    (
        ("Secondaries in both lungs.", "Lung secondaries have appeared."),
        ("Skeleton without abnormality.", "Old healed rib fractures only."),
        ("Unclear shadow, review advised.", "Shadow of unclear nature."),
    ),
)
OWN_HEDGED = (
    (
        ("The nodules favor metastatic rather than granulomatous disease.", "No granulomatous disease; metastatic disease is suspected."),
        ("The nodules favor granulomatous rather than metastatic disease.", "No metastatic disease; granulomatous disease is suspected."),
        ("The nodules may be granulomatous or metastatic disease.", "Granulomatous and metastatic disease are both suspected."),
    ),
    (
        ("Densities look malignant and not benign.", "Malignant densities are likely and benign ones unlikely."),
        ("Densities look benign and not malignant.", "Benign densities are likely and malignant ones unlikely."),
        ("Densities look neither clearly benign nor clearly malignant.", "Malignant or benign densities are alike here."),
    ),
    (
        ("Spots point to tumor instead of scar.", "Tumor is probable, without scar."),
        ("Spots point to scar instead of tumor.", "Scar is probable, without tumor."),
        ("Spots point to scar as much as tumor.", "Tumor with scar is conceivable."),
    ),
)
GRADE_EASY = (
    ("There is {} pulmonary vascular congestion.", "The pulmonary vasculature shows {} congestion."),
    ("Interstitial edema is {} on this study.", "Appearance of {} interstitial edema."),
    ("Hilar haze: {} overload.", "Fluid overload graded as {}."),
)
GRADE_HARD = (  # the grade before, then the grade now
    ("Pulmonary congestion has gone from {} to {}.", "Compared with {} congestion before, it is now {}."),
    ("Interstitial edema, {} on the prior study, is currently {}.", "Prior edema of {} degree has become {}."),
    ("Overload formerly {} and presently {}.", "Haze changed: {} earlier, {} today."),
)
FILLERS = (
    (
        "The endotracheal tube terminates above the carina.",
        "A right internal jugular line ends in the superior vena cava.",
        "The mediastinal contours are stable.",
        "There is no pneumothorax.",
        "Low lung volumes accentuate the bronchovascular markings.",
        "Bibasilar atelectasis is unchanged.",
        "An enteric tube courses below the diaphragm.",
        "The aorta is tortuous and calcified.",
    ),
    (
        "Support and monitoring devices remain in standard position.",
        "Median sternotomy wires are aligned.",
        "No evidence of pneumothorax is identified.",
        "Patient rotation limits evaluation of the hilum.",
        "Retrocardiac opacity is likely atelectasis.",
        "Degree of inspiration is shallow.",
        "A pacemaker lead projects over the right ventricle.",
        "Upper abdomen is within normal limits.",
    ),
    (
        "Tracheal tube position satisfactory.",
        "Central catheter tip projecting over the cavoatrial junction.",
        "Pneumothorax not demonstrated.",
        "Plate atelectasis on the left.",
        "Clips after earlier surgery.",
        "Supine projection, limited inspiration.",
        "Gastric tube in place.",
        "Soft tissues without particular finding.",
    ),
)
HISTORIES = (
    ("Known history of pleural effusion.", "History of metastatic disease, as per the request.", "History of severe congestion."),
    ("Prior records mention pleural fluid.", "Past malignant disease is mentioned on the request.", "Past severe edema is mentioned."),
    ("Anamnesis: former effusion.", "Anamnesis: tumor.", "Anamnesis: severe overload."),
)
MARKS = (  # without, with the mark that a spurious tie uses
    ("Read at the time of review.", "Read on the unit."),
    ("Images were reviewed by the attending.", "Images were reviewed overnight."),
    ("Reported in the morning session.", "Reported by the duty doctor."),
)
INDICATIONS = (
    (
        "with respiratory distress // interval change",
        "with hypoxia // eval for pneumonia",
        "status post line placement // position of line",
    ),
    ("with shortness of breath, please assess", "with fever, please assess for infiltrate", "intubated, please assess the tube"),
    ("dyspnea, question of infiltrate", "new tube, check", "fever of unknown origin"),
)
OTHER_EXAMS = (
    ("CT HEAD W/O CONTRAST", "No acute intracranial hemorrhage.", "Ventricles and sulci are prominent for age."),
    ("CT ABD & PELVIS WITH CONTRAST", "No free air or obstruction.", "The liver enhances homogeneously."),
    ("RENAL U.S. PORT", "No hydronephrosis.", "The kidneys are normal in size."),
    ("UNILAT LOWER EXT VEINS", "No evidence of deep vein thrombosis.", "Normal flow and compressibility."),
)
